package shm

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"forkshm.example/shm/internal/elfsym"
	"forkshm.example/shm/internal/hook"
	"forkshm.example/shm/internal/procmaps"
)

// printable quotes a name that has other characters than printable ones.
func printable(name string) string {
	if quoted := strconv.Quote(name); quoted[1:len(quoted)-1] != name {
		return quoted
	}
	return name
}

// module is a file that is mapped.
type module struct {
	name  string  // the name in /proc/self/maps
	base  uintptr // the address of the file's beginning
	inode uint64  // the file's number
}

// moduleAt returns the module that this process has mapped at an address, if
// any.
func moduleAt(pc uintptr) module { return modulesAt(pc)[0] }

// modulesAt is moduleAt for several addresses.
func modulesAt(pcs ...uintptr) []module {
	modules := make([]module, len(pcs))
	var last module // the last module whose beginning was seen
	for vma, err := range procmaps.All(0) {
		if err != nil {
			break
		}
		if vma.Offset == 0 && vma.Inode != 0 && vma.Inode != last.inode {
			last = module{vma.Name, vma.Start, vma.Inode}
		}
		if vma.Inode == 0 || !strings.HasPrefix(vma.Name, "/") {
			continue
		}
		m := last
		if vma.Inode != last.inode {
			m = module{vma.Name, vma.Start - uintptr(vma.Offset), vma.Inode}
		}
		for i, pc := range pcs {
			if vma.Start <= pc && pc < vma.End {
				modules[i] = m
			}
		}
	}
	return modules
}

// symbolTables caches the symbol tables of the modules that children crashed
// in. Reading a table takes milliseconds.
var symbolTables struct {
	sync.Mutex
	byModule map[string]*elfsym.Table
}

func init() { hook.Locks = append(hook.Locks, &symbolTables.Mutex) }

const maxSymbolTables = 64

// symbolsOf returns the symbols of a module that this process has mapped, and
// the module's path. For the program itself symbolsOf reads /proc/self/exe:
// another program may have the path by now.
func symbolsOf(name string) (table *elfsym.Table, path string) {
	read := func() (*elfsym.Table, error) { return elfsym.Open(name) }
	path = name
	if exe, err := os.Readlink("/proc/self/exe"); err == nil && exe == name {
		read = elfsym.Self
		if executable, err := os.Executable(); err == nil {
			path = executable
		}
	}
	symbolTables.Lock()
	table, found := symbolTables.byModule[name]
	symbolTables.Unlock()
	if found {
		return table, path
	}
	table, _ = read() // nil if the file cannot be read
	symbolTables.Lock()
	defer symbolTables.Unlock()
	if symbolTables.byModule == nil || len(symbolTables.byModule) >= maxSymbolTables {
		symbolTables.byModule = map[string]*elfsym.Table{}
	}
	symbolTables.byModule[name] = table
	return table, path
}
