//go:build linux && cgo

package parity_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"forkshm.example/shm/internal/testenv"
)

// Random scripts must have the same results in C and in Go. SHM_SEED repeats a
// run whose seed was printed. SHM_SCRIPTS is the number of scripts.
func TestRandomScriptsDoAsInC(t *testing.T) {
	testenv.NeedTime(t)
	seed := time.Now().UnixNano()
	scripts := 10
	for name, into := range map[string]func(int64){
		"SHM_SEED": func(n int64) { seed = n }, "SHM_SCRIPTS": func(n int64) { scripts = int(n) },
	} {
		if s := os.Getenv(name); s != "" {
			n, err := strconv.ParseInt(s, 10, 64)
			require.NoError(t, err)
			into(n)
		}
	}
	t.Logf("SHM_SEED=%d", seed)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	for _, sharing := range []string{"private", "shared"} {
		for _, source := range []string{"anon", "/dev/zero", "memfd"} {
			t.Run(fmt.Sprintf("sharing=%s/source=%s", sharing, strings.TrimPrefix(source, "/dev/")),
				func(t *testing.T) {
					var all strings.Builder
					for i := range scripts {
						fmt.Fprintf(&all, "echo seed %d script %d\n", seed, i)
						randomScript(&all, random, sharing, source)
						fmt.Fprintf(&all, "echo seed %d script %d of mappings\n", seed, i)
						randomMappingScript(&all, random, sharing, source)
					}
					compareWithTwin(t, all.String())
				})
		}
	}
}

// randomScript maps, remaps, protects and touches memory within a reservation
// of 16 pages. At its end each page is compared: its protection, and what a
// child finds there.
func randomScript(w *strings.Builder, random *rand.Rand, sharing, source string) {
	const pages = 16
	line := func(format string, a ...any) { fmt.Fprintf(w, format+"\n", a...) }
	page := func() int { return random.IntN(pages) * 0x1000 }
	length := func(from int) int { return (1 + random.IntN(min(4, pages-from/0x1000))) * 0x1000 }
	prots := []string{"none", "r", "rw", "rw", "rw"}
	line("mmap r 0 %#x none private anon", pages*0x1000)
	for range 3 {
		at := page()
		line("mmap a r+%#x %#x rw %s|fixed %s", at, length(at), sharing, source)
	}
	for range 20 {
		at := page()
		n := length(at)
		switch random.IntN(8) {
		case 0:
			line("mmap a r+%#x %#x %s %s|fixed %s", at, n, prots[random.IntN(len(prots))], sharing,
				source)
		case 1: // a hole would be any thread's
			line("mmap a r+%#x %#x none private|fixed anon", at, n)
		case 2:
			line("mprotect r+%#x %#x %s", at+random.IntN(2)*random.IntN(2), n,
				prots[random.IntN(len(prots))])
		case 3:
			to := page()
			line("mremap b r+%#x %#x %#x maymove|remap_fixed r+%#x", at, n, length(to), to)
			line("mmap a r+%#x %#x none private|noreplace anon", at, n) // a hole that it left
		case 4:
			line("mremap b r+%#x %#x %#x 0 0", at, n, n)
		case 5, 6:
			line("set r+%#x %d", at+random.IntN(0x1000), random.IntN(256))
		case 7:
			line("get r+%#x", at)
		}
	}
	for i := range pages {
		line("maps r+%#x", i*0x1000)
		line("child read r+%#x 0", i*0x1000)
	}
}

// randomMappingScript calls methods of three mappings. It leaves out operations
// in which a Mapping differs from the system call, as the Mapping's doc says:
// growth of shared memory, of a split mapping and in place, and locks of memory
// without access.
func randomMappingScript(w *strings.Builder, random *rand.Rand, sharing, source string) {
	type state struct {
		length, first int
		prot          string
		locked        bool
	}
	line := func(format string, a ...any) { fmt.Fprintf(w, format+"\n", a...) }
	length := func() int { return 1 + random.IntN(20*0x1000) }
	states := map[string]*state{}
	names := []string{"a", "b", "c"}
	newMap := func(name string) {
		n := length()
		states[name] = &state{length: n, first: (n + 0xfff) &^ 0xfff, prot: "rw"}
		line("map %s %d %s %s", name, n, sharing, source)
	}
	for _, name := range names {
		newMap(name)
	}
	for range 40 {
		name := names[random.IntN(len(names))]
		m := states[name]
		if m == nil {
			newMap(name)
			continue
		}
		off := random.IntN(m.length)
		switch random.IntN(10) {
		case 0, 1:
			n := length()
			if sharing == "shared" && source != "memfd" {
				n = 1 + random.IntN(m.first)
			}
			line("resize %s %d maymove", name, n)
			m.length = n
		case 2:
			m.length = 1 + random.IntN(m.length)
			line("resize %s %d 0", name, m.length)
		case 3:
			dst := names[random.IntN(len(names))]
			if d := states[dst]; d == nil || d == m ||
				(d.length+0xfff)/0x1000 < (m.length+0xfff)/0x1000 {
				continue
			}
			line("moveto %s %s", name, dst)
			delete(states, dst)
		case 4:
			m.prot = []string{"rw", "rw", "r", "none"}[random.IntN(4)]
			line("protect %s %s", name, m.prot)
		case 5:
			advice := []string{"dontneed", "remove", "12345"}[random.IntN(3)]
			line("advise %s %d %d %s", name, off&^0xfff, random.IntN(m.length-off&^0xfff+1), advice)
		case 6:
			line("advise %s 0 %d %s", name, m.length,
				[]string{"dontfork", "dofork", "wipeonfork", "keeponfork", "dontdump",
					"dodump"}[random.IntN(6)])
		case 7:
			if m.locked = !m.locked && m.prot != "none"; m.locked {
				line("lock %s", name)
			} else {
				line("unlock %s", name)
			}
		case 8:
			line("close %s", name)
			delete(states, name)
		default:
			line("set %s+%d %d", name, off, random.IntN(256))
		}
		for _, name := range names {
			if m := states[name]; m != nil {
				line("sum %s", name)
				if random.IntN(4) == 0 {
					line("maps %s", name)
					line("child read %s+%d 0", name, random.IntN(m.length))
				}
			}
		}
	}
	for _, name := range names {
		if states[name] != nil {
			line("close %s", name)
		}
	}
}
