//go:build linux && cgo && livego

package live_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unique"

	"forkshm.example/shm/live"

	"github.com/stretchr/testify/require"
)

// Few forks suffice: if the child did not free the locks, a fifth of the
// children would hang.
const mapForks = 30

// mapOf checks in a child that a sync.Map is whole. A key that is stored is
// there once, and a key that is deleted is not there.
func mapOf(m *sync.Map, keys int) error {
	for round := range 2 {
		for k := range keys {
			m.Store(k, k+round)
		}
		seen := 0
		m.Range(func(k, v any) bool {
			if v == k.(int)+round {
				seen++
			}
			return true
		})
		if seen != keys {
			return fmt.Errorf("round %d: %d keys of %d", round, seen, keys)
		}
		for k := range keys {
			if _, loaded := m.LoadAndDelete(k); !loaded {
				return fmt.Errorf("round %d: key %d is not there", round, k)
			}
		}
		m.Range(func(k, _ any) bool { seen--; return true })
		if seen != keys {
			return fmt.Errorf("round %d: %d keys more than were stored", round, keys-seen)
		}
	}
	return nil
}

// byMany runs check in several goroutines, which share only what the locks of
// maps guard.
func byMany(check func(i int) error) error {
	errs := make(chan error)
	for i := range 4 {
		go func() { errs <- check(i) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

func status(err error) int {
	if err != nil {
		fmt.Println("child:", err)
		return 1
	}
	return good
}

func TestChildrenUseASyncMapThatOthersWriteTo(t *testing.T) {
	const keys = 100
	for _, writers := range []int{1, 2, 8} {
		t.Run(fmt.Sprint("writers=", writers), func(t *testing.T) {
			var m sync.Map
			for range writers {
				defer repeatedly(func() {
					switch k := rand.IntN(keys); rand.IntN(4) {
					case 0:
						m.Delete(k)
					case 1:
						m.LoadOrStore(k, new([64]byte))
					case 2:
						m.CompareAndDelete(k, k)
					default:
						m.Store(k, new([64]byte))
					}
				})()
			}
			for n := range mapForks {
				p, err := live.Go(func() int {
					if n%3 == 0 {
						runtime.GC()
					}
					if err := mapOf(&m, keys); err != nil {
						return status(err)
					}
					return status(byMany(func(int) error {
						for k := range keys {
							m.Store(k, 1)
							m.Delete(k + 1)
						}
						return nil
					}))
				})
				require.NoError(t, err)
				require.Equal(t, good, wait(t, p), "fork %d", n)
			}
		})
	}
}

// Goroutines of the child write to the map while the child forks, and so on.
func TestAChildsChildrenUseASyncMapThatItsGoroutinesWriteTo(t *testing.T) {
	const keys = 50
	var m sync.Map
	write := func() {
		k := rand.IntN(keys)
		m.Store(k, new([64]byte))
		m.Delete(k)
	}
	var generation func(n int) int
	generation = func(n int) int {
		if err := mapOf(&m, keys); err != nil || n == 0 {
			return status(err)
		}
		ends := []func(){repeatedly(write), repeatedly(write)}
		p, err := live.Go(func() int { return generation(n - 1) })
		for _, end := range ends {
			end()
		}
		if err != nil {
			return status(err)
		}
		if got := wait(t, p); got != good {
			return status(fmt.Errorf("generation %d: status %d", n, got))
		}
		return status(mapOf(&m, keys))
	}
	defer repeatedly(write)()
	for n := range mapForks / 3 {
		p, err := live.Go(func() int { return generation(3) })
		require.NoError(t, err)
		require.Equal(t, good, wait(t, p), "fork %d", n)
	}
}

// The first unique.Make of a value adds the value to a map, and a collection
// removes it.
func TestChildrenMakeValuesUniqueAsOthersDo(t *testing.T) {
	type value struct{ n int }
	handles := func(n int) error {
		first := unique.Make(value{n})
		if runtime.GC(); unique.Make(value{n}) != first || first.Value().n != n {
			return fmt.Errorf("two handles of %d", n)
		}
		for range 1000 {
			unique.Make(value{rand.IntN(100)})
		}
		runtime.GC()
		return nil
	}
	for range 3 {
		defer repeatedly(func() {
			for range 100 {
				unique.Make(value{rand.IntN(100)})
			}
		})()
	}
	defer repeatedly(runtime.GC)()
	for n := range mapForks {
		p, err := live.Go(func() int {
			if err := handles(1000); err != nil {
				return status(err)
			}
			return status(byMany(handles))
		})
		require.NoError(t, err)
		require.Equal(t, good, wait(t, p), "fork %d", n)
	}
}

// A goroutine that uses a sync.Pool for the first time holds the lock of all
// pools.
func TestChildrenUseAPoolThatOthersBeginToUse(t *testing.T) {
	for range 4 {
		defer repeatedly(func() {
			var pool sync.Pool
			pool.Put(new(int))
		})()
	}
	for n := range mapForks / 2 {
		p, err := live.Go(func() int {
			return status(byMany(func(i int) error {
				for n := range 100 {
					pool := sync.Pool{New: func() any { return n }}
					if pool.Get() != n {
						return fmt.Errorf("pool %d", n)
					}
					//lint:ignore SA6002 an int, so that the pool of another int is told from it
					pool.Put(n)
				}
				runtime.GC()
				return nil
			}))
		})
		require.NoError(t, err)
		require.Equal(t, good, wait(t, p), "fork %d", n)
	}
}

// The first use of a type makes the type's encoder, and others wait for that.
func TestChildrenEncodeTypesThatOthersBeginToEncode(t *testing.T) {
	var count atomic.Int64
	newType := func() reflect.Type {
		// Each type refers to the former one.
		var inner []reflect.StructField
		for i := range 20 {
			inner = append(inner,
				reflect.StructField{Name: fmt.Sprintf("F%d_%d", i, count.Add(1)),
					Type: reflect.TypeFor[map[string][]int]()})
		}
		it := reflect.StructOf(inner)
		return reflect.StructOf([]reflect.StructField{
			{Name: "Inner", Type: it}, {Name: "Many", Type: reflect.SliceOf(it)},
			{Name: "More", Type: reflect.PointerTo(it)},
		})
	}
	var current [3]atomic.Pointer[any]
	for i := range current {
		next := func() {
			v := reflect.New(newType()).Interface()
			current[i].Store(&v)
			_, _ = json.Marshal(v)
			_ = json.Unmarshal([]byte(`{"Inner":null}`), v)
		}
		next()
		defer repeatedly(next)()
	}
	for n := range mapForks / 2 {
		p, err := live.Go(func() int {
			for i := range current {
				v := *current[i].Load()
				text, err := json.Marshal(v)
				if err == nil {
					err = json.Unmarshal(text, v)
				}
				if err != nil {
					return status(err)
				}
			}
			return good
		})
		require.NoError(t, err)
		require.Equal(t, good, wait(t, p), "fork %d", n)
	}
}
