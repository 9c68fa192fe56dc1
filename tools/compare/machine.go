package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

func machineNow() machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version(), LoadBefore: load(),
		CPU: runtime.GOARCH}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel = "Linux " + strings.TrimSpace(string(release))
	info, _ := os.ReadFile("/proc/cpuinfo")
	for lines := bufio.NewScanner(bytes.NewReader(info)); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok &&
			strings.TrimSpace(key) == "model name" {
			m.CPU = strings.TrimSpace(value)
		}
	}
	if out, err := exec.Command(cc()[0], "--version").Output(); err == nil {
		m.CC, _, _ = strings.Cut(string(out), "\n")
	}
	return m
}

func load() string {
	all, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(all), " ")
	return first
}
