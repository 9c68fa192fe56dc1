//go:build linux

package seccomp

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// data is struct seccomp_data.
type data struct {
	number, arch uint32
	pc           uint64
	args         [6]uint64
}

func (d data) word(offset uint32) uint32 {
	var b []byte
	b = binary.LittleEndian.AppendUint32(b, d.number)
	b = binary.LittleEndian.AppendUint32(b, d.arch)
	b = binary.LittleEndian.AppendUint64(b, d.pc)
	for _, arg := range d.args {
		b = binary.LittleEndian.AppendUint64(b, arg)
	}
	return binary.LittleEndian.Uint32(b[offset:])
}

// run interprets a filter as the kernel does. It returns the action, and how many
// instructions it took.
func run(program []unix.SockFilter, d data) (action uint32, steps int) {
	var a uint32
	for pc := 0; ; pc++ {
		in := program[pc]
		steps++
		holds := false
		switch in.Code {
		case load:
			a = d.word(in.K)
			continue
		case and:
			a &= in.K
			continue
		case jump:
			pc += int(in.K)
			continue
		case giveBack:
			return in.K, steps
		case jumpEq:
			holds = a == in.K
		case jumpGt:
			holds = a > in.K
		case jumpGe:
			holds = a >= in.K
		default:
			panic(fmt.Sprintf("instruction %d: code %#x", pc, in.Code))
		}
		if holds {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
}
