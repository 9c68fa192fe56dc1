package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"forkshm.example/shm/live"
)

// server speaks RESP, Redis's protocol.
type server struct {
	data *store
	file string

	busy     sync.Mutex // held while a save is under way
	saving   atomic.Pointer[live.Saving]
	lastSave atomic.Int64
}

func newServer(file string) *server {
	s := &server{data: newStore(), file: file}
	s.lastSave.Store(time.Now().Unix())
	return s
}

func (s *server) serve(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go s.talk(conn)
	}
}

func (s *server) talk(conn net.Conn) {
	defer conn.Close()
	r, w := bufio.NewReaderSize(conn, 16<<10), bufio.NewWriterSize(conn, 16<<10)
	for {
		args, err := readCommand(r)
		if err != nil {
			var bad protocolError
			if errors.As(err, &bad) {
				fmt.Fprintf(w, "-ERR %v\r\n", err)
				_ = w.Flush()
			}
			return
		}
		if len(args) == 0 {
			continue
		}
		quit := s.do(w, args)
		if r.Buffered() == 0 || quit { // else more of a pipeline is here
			if w.Flush() != nil {
				return
			}
		}
		if quit {
			return
		}
	}
}

const (
	maxBulk = 64 << 20
	maxArgs = 1 << 16
)

type protocolError string

func (e protocolError) Error() string { return "Protocol error: " + string(e) }

// readCommand reads an array of bulk strings, or a line of words.
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
		if line, err = readLine(r); err != nil {
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
		args = append(args, arg[:size])
	}
	return args, nil
}

// readLine returns a line that is valid until the next read.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		return nil, protocolError("too big a line")
	}
	return bytes.TrimRight(line, "\r\n"), err
}

// arity is the number of a command's words, if negative at the least.
var arity = map[string]int{"PING": -1, "ECHO": 2, "GET": 2, "SET": 3, "DEL": -2, "EXISTS": -2,
	"INCR": 2, "DBSIZE": 1,
	"SAVE": 1, "BGSAVE": 1, "LASTSAVE": 1, "SNAPSHOT": 2, "INFO": -1, "CONFIG": -2, "COMMAND": -1,
	"QUIT": 1}

// do answers a command, and says whether it was the last.
func (s *server) do(w *bufio.Writer, args [][]byte) (quit bool) {
	name := strings.ToUpper(string(args[0]))
	switch n := arity[name]; {
	case n == 0:
		fail(w, fmt.Errorf("unknown command '%.64s'", args[0]))
		return false
	case n > 0 && len(args) != n || len(args) < -n:
		fail(w, fmt.Errorf("wrong number of arguments for '%s' command", strings.ToLower(name)))
		return false
	}
	switch name {
	case "PING":
		if len(args) > 1 {
			bulk(w, string(args[1]))
			break
		}
		simple(w, "PONG")
	case "ECHO":
		bulk(w, string(args[1]))
	case "GET":
		if value, ok := s.data.get(args[1]); ok {
			bulk(w, value)
		} else {
			_, _ = w.WriteString("$-1\r\n")
		}
	case "SET":
		s.data.set(args[1], string(args[2]))
		simple(w, "OK")
	case "DEL", "EXISTS":
		count := 0
		for _, key := range args[1:] {
			ok := false
			if name == "DEL" {
				ok = s.data.del(key)
			} else {
				_, ok = s.data.get(key)
			}
			if ok {
				count++
			}
		}
		integer(w, count)
	case "INCR":
		n := 0
		err := s.data.update(args[1], func(value string) (_ string, err error) {
			if value != "" {
				if n, err = strconv.Atoi(value); err != nil {
					return "", errors.New("value is not an integer or out of range")
				}
			}
			n++
			return strconv.Itoa(n), nil
		})
		if err != nil {
			fail(w, err)
			break
		}
		integer(w, n)
	case "DBSIZE":
		integer(w, s.data.len())
	case "SAVE":
		if _, err := s.save("lock"); err != nil {
			fail(w, err)
			break
		}
		simple(w, "OK")
	case "BGSAVE":
		if !live.Patched() {
			fail(w, live.ErrNotPatched)
			break
		}
		go func() {
			if r, err := s.save("fork"); err != nil {
				log.Print("kv: ", err)
			} else {
				log.Print("kv: saved: ", r)
			}
		}()
		simple(w, "Background saving started")
	case "LASTSAVE":
		integer(w, int(s.lastSave.Load()))
	case "SNAPSHOT": // ours: saves by that method, and tells how it went
		r, err := s.save(string(args[1]))
		if err != nil {
			fail(w, err)
			break
		}
		bulk(w, r)
	case "INFO":
		bulk(w, s.info())
	case "CONFIG": // redis-benchmark asks
		_, _ = w.WriteString("*0\r\n")
	case "COMMAND": // redis-cli asks
		_, _ = w.WriteString("*0\r\n")
	case "QUIT":
		simple(w, "OK")
		return true
	}
	return false
}

func (s *server) info() string {
	busy := 1
	if s.busy.TryLock() {
		s.busy.Unlock()
		busy = 0
	}
	text := fmt.Sprintf("# Keyspace\r\nkeys:%d\r\n# "+
		"Persistence\r\nrdb_bgsave_in_progress:%d\r\nrdb_last_save_time:%d\r\n", s.data.len(), busy,
		s.lastSave.Load())
	if saving := s.saving.Load(); saving != nil {
		text += fmt.Sprintf("last_fork_usec:%d\r\nlast_fork_bytes_written:%d\r\nlast_fork_bytes_copied:%d\r\n",
			saving.Pause().Microseconds(), saving.Progress(), saving.Copied())
	}
	return text
}

func simple(w *bufio.Writer, s string) { _, _ = w.WriteString("+" + s + "\r\n") }
func fail(w *bufio.Writer, err error) {
	_, _ = w.WriteString("-ERR " + strings.NewReplacer("\r", " ", "\n", " ").Replace(err.Error()) +
		"\r\n")
}
func integer(w *bufio.Writer, n int) { _, _ = w.WriteString(":" + strconv.Itoa(n) + "\r\n") }
func bulk(w *bufio.Writer, s string) {
	_, _ = w.WriteString("$" + strconv.Itoa(len(s)) + "\r\n")
	_, _ = w.WriteString(s)
	_, _ = w.WriteString("\r\n")
}
