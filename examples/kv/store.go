package main

import (
	"hash/maphash"
	"sync"
)

// store holds the data in parts, each with a lock of its own. So writers seldom
// wait for each other, or for a map that grows.
type store struct {
	seed  maphash.Seed
	parts [256]part
}

type part struct {
	sync.RWMutex
	m map[string]string
}

func newStore() *store {
	s := &store{seed: maphash.MakeSeed()}
	for i := range s.parts {
		s.parts[i].m = map[string]string{}
	}
	return s
}

func (s *store) part(key []byte) *part {
	return &s.parts[maphash.Bytes(s.seed, key)%uint64(len(s.parts))]
}

func (s *store) get(key []byte) (value string, ok bool) {
	p := s.part(key)
	p.RLock()
	defer p.RUnlock()
	value, ok = p.m[string(key)]
	return value, ok
}

func (s *store) set(key []byte, value string) {
	p := s.part(key)
	p.Lock()
	defer p.Unlock()
	p.m[string(key)] = value
}

// update sets a key to what f returns for its value. If f fails, the value
// stays.
func (s *store) update(key []byte, f func(value string) (string, error)) error {
	p := s.part(key)
	p.Lock()
	defer p.Unlock()
	value, err := f(p.m[string(key)])
	if err == nil {
		p.m[string(key)] = value
	}
	return err
}

func (s *store) del(key []byte) bool {
	p := s.part(key)
	p.Lock()
	defer p.Unlock()
	_, ok := p.m[string(key)]
	delete(p.m, string(key))
	return ok
}

func (s *store) len() int {
	n := 0
	for i := range s.parts {
		s.parts[i].RLock()
		n += len(s.parts[i].m)
		s.parts[i].RUnlock()
	}
	return n
}

// locks returns the locks that keep all writers out.
func (s *store) locks() []sync.Locker {
	var locks []sync.Locker
	for i := range s.parts {
		locks = append(locks, s.parts[i].RLocker())
	}
	return locks
}
