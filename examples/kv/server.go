package main

import (
	"bufio"
	"errors"
	"fmt"
	"log"
	"net"
	"strconv"
	"strings"

	"forkshm.example/shm/live"
)

// server answers commands in RESP, Redis's protocol.
type server struct {
	data  *store
	saver *saver
}

func newServer(file string) *server {
	data := newStore()
	return &server{data, newSaver(data, file)}
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
	r := bufio.NewReaderSize(conn, 16<<10)
	w := answers{bufio.NewWriterSize(conn, 16<<10)}
	for {
		args, err := readCommand(r)
		if err != nil {
			var bad protocolError
			if errors.As(err, &bad) {
				w.fail(err)
				_ = w.Flush()
			}
			return
		}
		if len(args) == 0 {
			continue
		}
		quit := s.do(w, args)
		if r.Buffered() == 0 || quit { // else more commands of a pipeline are here
			if w.Flush() != nil {
				return
			}
		}
		if quit {
			return
		}
	}
}

// command is what the server does for one command. words is the number of the
// command's words, or minus the least number.
type command struct {
	words int
	do    func(s *server, w answers, args [][]byte)
}

var commands = map[string]command{
	"PING":     {-1, (*server).ping},
	"ECHO":     {2, func(_ *server, w answers, args [][]byte) { w.bulk(string(args[1])) }},
	"GET":      {2, (*server).get},
	"SET":      {3, (*server).set},
	"DEL":      {-2, (*server).del},
	"EXISTS":   {-2, (*server).exists},
	"INCR":     {2, (*server).incr},
	"DBSIZE":   {1, func(s *server, w answers, _ [][]byte) { w.integer(s.data.len()) }},
	"SAVE":     {1, (*server).save},
	"BGSAVE":   {1, (*server).bgsave},
	"LASTSAVE": {1, func(s *server, w answers, _ [][]byte) { w.integer(int(s.saver.last.Load())) }},
	"SNAPSHOT": {2, (*server).snapshot}, // not of Redis
	"INFO":     {-1, (*server).info},
	"CONFIG":   {-2, nothing}, // redis-benchmark asks
	"COMMAND":  {-1, nothing}, // redis-cli asks
	"QUIT":     {1, func(_ *server, w answers, _ [][]byte) { w.simple("OK") }},
}

// do answers a command, and returns true if the command was the client's last.
func (s *server) do(w answers, args [][]byte) (quit bool) {
	name := strings.ToUpper(string(args[0]))
	c, ok := commands[name]
	switch {
	case !ok:
		w.fail(fmt.Errorf("unknown command '%.64s'", args[0]))
		return false
	case c.words > 0 && len(args) != c.words || len(args) < -c.words:
		w.fail(fmt.Errorf("wrong number of arguments for '%s' command", strings.ToLower(name)))
		return false
	}
	c.do(s, w, args)
	return name == "QUIT"
}

func nothing(_ *server, w answers, _ [][]byte) { w.emptyArray() }

func (*server) ping(w answers, args [][]byte) {
	if len(args) > 1 {
		w.bulk(string(args[1]))
		return
	}
	w.simple("PONG")
}

func (s *server) get(w answers, args [][]byte) {
	value, ok := s.data.get(args[1])
	if !ok {
		w.noValue()
		return
	}
	w.bulk(value)
}

func (s *server) set(w answers, args [][]byte) {
	s.data.set(args[1], string(args[2]))
	w.simple("OK")
}

func (s *server) del(w answers, args [][]byte) {
	w.integer(count(args[1:], s.data.del))
}

func (s *server) exists(w answers, args [][]byte) {
	w.integer(count(args[1:], func(key []byte) bool { _, ok := s.data.get(key); return ok }))
}

func count(keys [][]byte, is func(key []byte) bool) (n int) {
	for _, key := range keys {
		if is(key) {
			n++
		}
	}
	return n
}

func (s *server) incr(w answers, args [][]byte) {
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
		w.fail(err)
		return
	}
	w.integer(n)
}

func (s *server) save(w answers, _ [][]byte) {
	if _, err := s.saver.save("lock"); err != nil {
		w.fail(err)
		return
	}
	w.simple("OK")
}

func (s *server) bgsave(w answers, _ [][]byte) {
	if !live.Patched() {
		w.fail(live.ErrNotPatched)
		return
	}
	go func() {
		if report, err := s.saver.save("fork"); err != nil {
			log.Print("kv: ", err)
		} else {
			log.Print("kv: saved: ", report)
		}
	}()
	w.simple("Background saving started")
}

// snapshot saves by the method that the command names, and answers how that
// went.
func (s *server) snapshot(w answers, args [][]byte) {
	report, err := s.saver.save(string(args[1]))
	if err != nil {
		w.fail(err)
		return
	}
	w.bulk(report)
}

func (s *server) info(w answers, _ [][]byte) {
	w.bulk(fmt.Sprintf("# Keyspace\r\nkeys:%d\r\n%s", s.data.len(), s.saver.info()))
}
