//go:build linux

package seccomp

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// MaxInstructions is the length of the longest filter that is assembled: SHM_MAX_FILTER of
// csrc/sandbox.h.
const MaxInstructions = 1024

// Filter is a filter. In the instructions that Self names, K is the process id of the process that
// the filter is for. It is not known when the filter is assembled.
type Filter struct {
	Instructions []unix.SockFilter
	Self         []uint32
}

// instruction is an instruction of a filter.
type instruction struct {
	unix.SockFilter
	self bool // K is the process id
}

// block is a piece of a program. Its jumps stay in it, and each way through it ends in a return.
type block []instruction

const (
	load     = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	and      = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	jump     = unix.BPF_JMP | unix.BPF_JA
	jumpEq   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	jumpGt   = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	jumpGe   = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	giveBack = unix.BPF_RET | unix.BPF_K
)

// The offsets of struct seccomp_data. All architectures here are little-endian.
const (
	numberOffset = 0
	archOffset   = 4
	argsOffset   = 16
)

func op(code uint16, k uint32) instruction {
	return instruction{SockFilter: unix.SockFilter{Code: code, K: k}}
}

func branch(code uint16, k uint32, yes, no uint8) instruction {
	return instruction{SockFilter: unix.SockFilter{Code: code, K: k, Jt: yes, Jf: no}}
}

// condition is a condition on an argument of a system call. The kernel takes most arguments for 32
// bits, and ignores the rest.
type condition struct {
	arg    uint32
	mask   uint32   // what of the argument counts, or 0: all
	anyOf  []uint32 // the argument is one of these
	atMost uint32   // or it is no more than this, if anyOf is empty
	isNull bool     // or all 64 bits are zero
	isSelf bool     // or it is the process id of the process itself
}

// rule is what becomes of a system call: an action if all conditions hold, and else a denial.
type rule struct {
	action uint32
	when   []condition
}

// isPlain reports whether the rule does not depend on arguments.
func (r rule) isPlain() bool { return len(r.when) == 0 }

// block returns the instructions for a rule.
func (r rule) block(denied uint32) block {
	var b block
	for _, c := range r.when {
		b = append(b, c.block(denied)...)
	}
	return append(b, op(giveBack, r.action))
}

// block returns instructions that return denied, unless the condition holds.
func (c condition) block(denied uint32) block {
	low := argsOffset + 8*c.arg
	b := block{op(load, low)}
	if c.mask != 0 {
		b = append(b, op(and, c.mask))
	}
	switch {
	case c.isNull:
		b = append(b, branch(jumpEq, 0, 0, 2), op(load, low+4), branch(jumpEq, 0, 1, 0))
	case c.isSelf:
		b = append(b, instruction{unix.SockFilter{Code: jumpEq, Jt: 1}, true})
	case len(c.anyOf) == 0:
		b = append(b, branch(jumpGt, c.atMost, 0, 1))
	default:
		for i, v := range c.anyOf { // each jumps over the rest of them, and the return
			b = append(b, branch(jumpEq, v, uint8(len(c.anyOf)-i), 0))
		}
	}
	return append(b, op(giveBack, denied))
}

// span is a range of numbers of system calls, up to the next span, with a rule.
type span struct {
	first uint32
	rule  rule
}

// spans returns the ranges of all numbers: those with a rule, and the denied ones between them.
func spans(rules map[uint32]rule, denied uint32) []span {
	numbers := make([]uint32, 0, len(rules))
	for n := range rules {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	all := []span{{0, rule{action: denied}}}
	put := func(first uint32, r rule) {
		last := &all[len(all)-1]
		switch {
		case r.isPlain() && last.rule.isPlain() && last.rule.action == r.action:
		case last.first == first:
			last.rule = r
		default:
			all = append(all, span{first, r})
		}
	}
	for _, n := range numbers {
		put(n, rules[n])
		if _, next := rules[n+1]; !next {
			put(n+1, rule{action: denied})
		}
	}
	return all
}

// search returns a binary search for the number of the system call, which is loaded. The kernel
// runs the filter for each number when the filter is installed, so that short ways make a fork
// cheap.
func search(all []span, denied uint32) block {
	if len(all) == 1 {
		return all[0].rule.block(denied)
	}
	half := len(all) / 2
	below, above := search(all[:half], denied), search(all[half:], denied)
	if len(below) > 255 {
		b := block{branch(jumpGe, all[half].first, 0, 1), op(jump, uint32(len(below)))}
		return append(append(b, below...), above...)
	}
	b := block{branch(jumpGe, all[half].first, uint8(len(below)), 0)}
	return append(append(b, below...), above...)
}

// assemble returns the filter that has these rules, by the number of the system call. Other calls,
// and all calls of other ABIs, are denied.
func assemble(audit uint32, rules map[uint32]rule, denied uint32) (Filter, error) {
	b := block{
		op(load, archOffset), branch(jumpEq, audit, 1, 0), op(giveBack, denied),
		op(load, numberOffset),
	}
	b = append(b, search(spans(rules, denied), denied)...)
	if len(b) > MaxInstructions {
		return Filter{}, fmt.Errorf("the filter has %d instructions, at most %d are possible: %w",
			len(b), MaxInstructions, unix.E2BIG)
	}
	var f Filter
	for i, in := range b {
		f.Instructions = append(f.Instructions, in.SockFilter)
		if in.self {
			f.Self = append(f.Self, uint32(i))
		}
	}
	return f, nil
}
