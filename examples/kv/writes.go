package main

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// writes are the writes of the demo's clients. Each key belongs to one client.
// A client numbers its writes from 1. Write n sets the client's key n*stride
// (modulo the number of the client's keys) to n. So a file of one instant has,
// of each client, the writes up to some number and none beyond.
type writes struct{ keys, clients int }

const stride = 1_000_000_007 // a prime, so that a client comes by all its keys

func keyName(i int) []byte { return fmt.Appendf(nil, "key:%09d", i) }

func valueOf(n int) string { return fmt.Sprintf("%032d", n) }

// keysOf returns how many keys a client has.
func (w writes) keysOf(client int) int { return (w.keys - client + w.clients - 1) / w.clients }

// key returns the key that a client's write n sets.
func (w writes) key(client, n int) []byte {
	return keyName(client + w.clients*(n*stride%w.keysOf(client)))
}

// check returns an error unless a file is of one instant. before are the writes
// of each client that were answered when the snapshot began. after are those
// that were sent when the snapshot had ended.
func (w writes) check(file string, before, after []int64) error {
	values, err := w.read(file)
	if err != nil {
		return err
	}
	for c, of := range values {
		last := int(slices.Max(of))
		if int64(last) < before[c] || int64(last) > after[c] {
			return fmt.Errorf("client %d: the last write is %d, must be from %d to %d", c, last,
				before[c], after[c])
		}
		if err := checkClient(of, last); err != nil {
			return fmt.Errorf("client %d: %w", c, err)
		}
	}
	return nil
}

// read returns the values of a file: those of each client in a slice.
func (w writes) read(file string) ([][]uint32, error) {
	values := make([][]uint32, w.clients)
	for c := range values {
		values[c] = make([]uint32, w.keysOf(c))
	}
	count := 0
	err := decode(file, func(key, value []byte) error {
		i, err := strconv.Atoi(strings.TrimPrefix(string(key), "key:"))
		if err != nil || i < 0 || i >= w.keys {
			return fmt.Errorf("the key %q, which no client has", key)
		}
		n, err := strconv.ParseUint(string(value), 10, 32)
		if err != nil {
			return err
		}
		values[i%w.clients][i/w.clients] = uint32(n)
		count++
		return nil
	})
	if err == nil && count != w.keys {
		err = fmt.Errorf("%d keys, must be %d", count, w.keys)
	}
	return values, err
}

// checkClient returns an error unless values are what a client's writes up to
// the last one leave.
func checkClient(values []uint32, last int) error {
	n := len(values)
	inverse := 0
	if n > 1 {
		size := big.NewInt(int64(n))
		inverse = int(new(big.Int).ModInverse(big.NewInt(stride%int64(n)), size).Int64())
	}
	for k, value := range values {
		want := k * inverse % n // the first write to the key, or 0 if that is write n
		if want == 0 {
			want = n
		}
		if want > last {
			want = 0
		} else {
			want += (last - want) / n * n
		}
		if int(value) != want {
			return fmt.Errorf("key %d has write %d, must have %d, as write %d is there",
				k, value, want, last)
		}
	}
	return nil
}
