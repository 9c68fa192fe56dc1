package testenv

import (
	"fmt"
	"os"
	"strings"
)

// MapsAt returns the permissions and the name that /proc/self/maps has for an address, or "nothing".
func MapsAt(addr uintptr) string {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(maps)) {
		var low, high uintptr
		if _, err := fmt.Sscanf(line, "%x-%x", &low, &high); err != nil {
			panic(err)
		}
		if addr >= low && addr < high {
			fields := strings.Fields(line)
			return fields[1] + " " + strings.Join(fields[5:], " ")
		}
	}
	return "nothing"
}
