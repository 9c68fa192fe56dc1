package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// store is the data. It is in parts, so that writers seldom wait for each
// other, nor for a table that grows.
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

// update sets a key to what f makes of its value, unless f fails.
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

// locks keep all writers out.
func (s *store) locks() []sync.Locker {
	var locks []sync.Locker
	for i := range s.parts {
		locks = append(locks, s.parts[i].RLocker())
	}
	return locks
}

// A file is: magic, the number of keys, of each key and value its length and
// its bytes, and the sum of all that. The numbers are varints, the sum is of
// four bytes.
const magic = "kv 1\n"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode writes a file. It takes no lock: it runs in a live-forked child, or
// with all of them held.
func (s *store) encode(w io.Writer) error {
	n := 0
	for i := range s.parts {
		n += len(s.parts[i].m)
	}
	sum := uint32(0)
	buf := binary.AppendUvarint(append(make([]byte, 0, 128<<10), magic...), uint64(n))
	flush := func() error {
		sum = crc32.Update(sum, castagnoli, buf)
		_, err := w.Write(buf)
		buf = buf[:0]
		return err
	}
	for i := range s.parts {
		for key, value := range s.parts[i].m {
			buf = append(binary.AppendUvarint(buf, uint64(len(key))), key...)
			buf = append(binary.AppendUvarint(buf, uint64(len(value))), value...)
			if len(buf) >= 64<<10 {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	_, err := w.Write(binary.LittleEndian.AppendUint32(nil, sum))
	return err
}

// decode reads a file, and gives each key and value to f, which must not keep
// them.
func decode(path string, f func(key, value []byte) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	r := &summing{r: bufio.NewReaderSize(file, 1<<20)}
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != magic {
		return fmt.Errorf("%s: no such file of ours", path)
	}
	n, err := binary.ReadUvarint(r)
	var kv [2][]byte
	for i := uint64(0); i < n && err == nil; i++ {
		for j := range kv {
			var size uint64
			if size, err = binary.ReadUvarint(r); err != nil {
				break
			}
			if size > maxBulk {
				return fmt.Errorf("%s: a length of %d", path, size)
			}
			if uint64(cap(kv[j])) < size {
				kv[j] = make([]byte, size)
			}
			kv[j] = kv[j][:size]
			if _, err = io.ReadFull(r, kv[j]); err != nil {
				break
			}
		}
		if err == nil {
			err = f(kv[0], kv[1])
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	sum := r.sum
	var stored [4]byte
	if _, err := io.ReadFull(r, stored[:]); err != nil ||
		binary.LittleEndian.Uint32(stored[:]) != sum {
		return fmt.Errorf("%s: its sum is wrong", path)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		return fmt.Errorf("%s: more than there should be", path)
	}
	return nil
}

type summing struct {
	r   *bufio.Reader
	sum uint32
	one [1]byte
}

func (s *summing) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum = crc32.Update(s.sum, castagnoli, p[:n])
	return n, err
}

func (s *summing) ReadByte() (byte, error) {
	_, err := io.ReadFull(s, s.one[:])
	return s.one[0], err
}

func (s *store) load(path string) error {
	return decode(path, func(key, value []byte) error {
		s.set(key, string(value))
		return nil
	})
}

// replaceFile replaces a file by what encode writes, as programs do that need
// no child for it.
func replaceFile(path string, encode func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".kv-*")
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 256<<10)
	err = encode(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func copyFrom(r io.Reader) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	}
}
