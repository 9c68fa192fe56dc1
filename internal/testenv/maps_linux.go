package testenv

import "forkshm.example/shm/internal/procmaps"

// MapsAt returns the permissions and the name that /proc/self/maps has for an
// address, or "nothing".
func MapsAt(addr uintptr) string {
	for v, err := range procmaps.All(0) {
		if err != nil {
			panic(err)
		}
		if v.Start <= addr && addr < v.End {
			return v.Perm.String() + " " + v.Name
		}
	}
	return "nothing"
}
