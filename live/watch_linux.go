package live

import "golang.org/x/sys/unix"

// begun is called in a child that has begun.
func (c *call) begun() {
	if c.limit <= 0 {
		return
	}
	for _, timer := range c.timers {
		if timer >= 0 {
			_, _, _ = unix.RawSyscall(unix.SYS_TIMER_DELETE, uintptr(timer), 0, 0)
		}
	}
}
