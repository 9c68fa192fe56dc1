package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// A file has, in this order: magic, the number of keys, the length and bytes of
// each key and of its value, and the sum of all bytes before it. The numbers
// are varints, and the sum has four bytes.
const magic = "kv 1\n"

// maxLength is the length of the longest key or value that is read, in bytes.
const maxLength = 64 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode writes a file. It takes no lock: the caller holds all of them, or is a
// live-forked child, in which no other goroutine runs.
func (s *store) encode(w io.Writer) error {
	n := 0
	for i := range s.parts {
		n += len(s.parts[i].m)
	}
	sum := uint32(0)
	buf := binary.AppendUvarint(append(make([]byte, 0, 128<<10), magic...), uint64(n))
	flush := func() error {
		sum = crc32.Update(sum, castagnoli, buf)
		_, err := w.Write(buf)
		buf = buf[:0]
		return err
	}
	for i := range s.parts {
		for key, value := range s.parts[i].m {
			buf = append(binary.AppendUvarint(buf, uint64(len(key))), key...)
			buf = append(binary.AppendUvarint(buf, uint64(len(value))), value...)
			if len(buf) >= 64<<10 {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	_, err := w.Write(binary.LittleEndian.AppendUint32(nil, sum))
	return err
}

// decode reads a file, and calls f with each key and value. f must not keep
// them.
func decode(path string, f func(key, value []byte) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := decodeFrom(&summing{r: bufio.NewReaderSize(file, 1<<20)}, f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func decodeFrom(r *summing, f func(key, value []byte) error) error {
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != magic {
		return errors.New("the file was not written by kv")
	}
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return err
	}
	var key, value []byte
	for range n {
		if key, err = readBytes(r, key); err != nil {
			return err
		}
		if value, err = readBytes(r, value); err != nil {
			return err
		}
		if err := f(key, value); err != nil {
			return err
		}
	}
	return r.end()
}

// readBytes reads a length and as many bytes, into b if they fit.
func readBytes(r *summing, b []byte) ([]byte, error) {
	length, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if length > maxLength {
		return nil, fmt.Errorf("a key or value of %d bytes, must be at most %d", length, maxLength)
	}
	if uint64(cap(b)) < length {
		b = make([]byte, length)
	}
	b = b[:length]
	_, err = io.ReadFull(r, b)
	return b, err
}

// summing is a reader that keeps the sum of what was read.
type summing struct {
	r   *bufio.Reader
	sum uint32
	one [1]byte
}

func (s *summing) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum = crc32.Update(s.sum, castagnoli, p[:n])
	return n, err
}

func (s *summing) ReadByte() (byte, error) {
	_, err := io.ReadFull(s, s.one[:])
	return s.one[0], err
}

// end checks the sum, which must be the end of the file.
func (s *summing) end() error {
	sum := s.sum
	var stored [4]byte
	if _, err := io.ReadFull(s, stored[:]); err != nil {
		return err
	}
	if got := binary.LittleEndian.Uint32(stored[:]); got != sum {
		return fmt.Errorf("the sum is %#x, must be %#x", got, sum)
	}
	if _, err := s.ReadByte(); err != io.EOF {
		return errors.New("there are bytes after the sum")
	}
	return nil
}

func (s *store) load(path string) error {
	return decode(path, func(key, value []byte) error {
		s.set(key, string(value))
		return nil
	})
}

// replaceFile replaces a file by what encode writes, by a temporary file and
// rename(2).
func replaceFile(path string, encode func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".kv-*")
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 256<<10)
	err = encode(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func copyFrom(r io.Reader) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	}
}
