package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
)

// The limits of a command in RESP, Redis's protocol.
const (
	maxBulk = 64 << 20 // bytes of a word
	maxArgs = 1 << 16  // words
)

type protocolError string

func (e protocolError) Error() string { return "Protocol error: " + string(e) }

// readCommand reads a command: an array of bulk strings, or a line of words.
func readCommand(r *bufio.Reader) ([][]byte, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	if len(line) == 0 || line[0] != '*' {
		return bytes.Fields(bytes.Clone(line)), nil
	}
	n, err := strconv.Atoi(string(line[1:]))
	if err != nil || n > maxArgs {
		return nil, protocolError("invalid multibulk length")
	}
	var args [][]byte
	for range n {
		arg, err := readBulk(r)
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
	}
	return args, nil
}

func readBulk(r *bufio.Reader) ([]byte, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	if len(line) == 0 || line[0] != '$' {
		return nil, protocolError("expected '$'")
	}
	size, err := strconv.Atoi(string(line[1:]))
	if err != nil || size < 0 || size > maxBulk {
		return nil, protocolError("invalid bulk length")
	}
	arg := make([]byte, size+2)
	if _, err := io.ReadFull(r, arg); err != nil {
		return nil, err
	}
	return arg[:size], nil
}

// readLine returns a line that is valid until the next read.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		return nil, protocolError("too big a line")
	}
	return bytes.TrimRight(line, "\r\n"), err
}

// readAnswer reads an answer that a command of this server can have.
func readAnswer(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	switch {
	case line == "":
		return "", errors.New("an empty answer")
	case line[0] == '-':
		return "", errors.New(line[1:])
	case line[0] != '$' || line == "$-1":
		return line[1:], nil
	}
	n, err := strconv.Atoi(line[1:])
	if err != nil {
		return "", err
	}
	b := make([]byte, n+2)
	_, err = io.ReadFull(r, b)
	return string(b[:n]), err
}

// answers writes the answers to one client's commands. A failed write fails
// the next Flush.
type answers struct{ *bufio.Writer }

var oneLine = strings.NewReplacer("\r", " ", "\n", " ")

func (w answers) simple(s string) { _, _ = w.WriteString("+" + s + "\r\n") }
func (w answers) fail(err error) {
	_, _ = w.WriteString("-ERR " + oneLine.Replace(err.Error()) + "\r\n")
}
func (w answers) integer(n int) { _, _ = w.WriteString(":" + strconv.Itoa(n) + "\r\n") }
func (w answers) bulk(s string) {
	_, _ = w.WriteString("$" + strconv.Itoa(len(s)) + "\r\n" + s + "\r\n")
}
func (w answers) noValue()    { _, _ = w.WriteString("$-1\r\n") }
func (w answers) emptyArray() { _, _ = w.WriteString("*0\r\n") }
