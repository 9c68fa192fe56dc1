package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"forkshm.example/shm/live"
)

// The demo starts its own program, which here is the test.
func TestMain(m *testing.M) {
	if os.Getenv("KV_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// start serves, and returns a function that asks the server.
func start(t *testing.T, s *server) func(command string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = s.serve(l) }()
	t.Cleanup(func() { l.Close() })
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	r := bufio.NewReader(conn)
	return func(command string) (string, error) {
		_, err := io.WriteString(conn, command)
		require.NoError(t, err)
		return readAnswer(r)
	}
}

func TestCommands(t *testing.T) {
	ask := start(t, newServer(filepath.Join(t.TempDir(), "dump.kv")))
	for _, c := range []struct{ command, answer, err string }{
		{"PING\r\n", "PONG", ""},
		{"*2\r\n$4\r\nping\r\n$3\r\na\nb\r\n", "a\nb", ""},
		{"SET a 1\r\n", "OK", ""},
		{"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$0\r\n\r\n", "OK", ""},
		{"GET a\r\n", "1", ""},
		{"GET b\r\n", "", ""},
		{"GET c\r\n", "-1", ""},
		{"INCR a\r\n", "2", ""},
		{"INCR n\r\n", "1", ""},
		{"EXISTS a b c\r\n", "2", ""},
		{"DBSIZE\r\n", "3", ""},
		{"DEL a c\r\n", "1", ""},
		{"SET c word\r\n", "OK", ""},
		{"INCR c\r\n", "", "ERR value is not an integer or out of range"},
		{"SET a\r\n", "", "ERR wrong number of arguments for 'set' command"},
		{"FLY\r\n", "", "ERR unknown command 'FLY'"},
		{"SNAPSHOT magic\r\n", "", `ERR no method "magic"`},
		{"*1\r\n+PING\r\n", "", "ERR Protocol error: expected '$'"},
	} {
		answer, err := ask(c.command)
		if c.err != "" {
			assert.EqualError(t, err, c.err, "%q", c.command)
			continue
		}
		assert.NoError(t, err, "%q", c.command)
		assert.Equal(t, c.answer, answer, "%q", c.command)
	}
}

func TestEachMethodSavesWhatIsRead(t *testing.T) {
	t.Setenv("KV_MAIN", "1")
	for _, m := range methods {
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			s := newServer(filepath.Join(dir, "dump.kv"))
			for i := range 10_000 {
				s.data.set(keyName(i), valueOf(i))
			}
			s.data.set(nil, strings.Repeat("long", 1<<18))
			_, err := start(t, s)("SNAPSHOT " + m.name + "\r\n")
			if m.name == "fork" && !live.Patched() {
				require.EqualError(t, err, "ERR "+live.ErrNotPatched.Error())
				entries, err := os.ReadDir(dir)
				require.NoError(t, err)
				assert.Empty(t, entries)
				return
			}
			require.NoError(t, err)
			read := newStore()
			require.NoError(t, read.load(s.saver.file))
			assert.Equal(t, 10_001, read.len())
			value, _ := read.get(keyName(4711))
			assert.Equal(t, valueOf(4711), value)
			value, _ = read.get(nil)
			assert.Len(t, value, 4<<18)
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Len(t, entries, 1)
		})
	}
}

func TestBGSAVE(t *testing.T) {
	s := newServer(filepath.Join(t.TempDir(), "dump.kv"))
	ask := start(t, s)
	s.saver.last.Store(0)
	_, err := ask("BGSAVE\r\n")
	if !live.Patched() {
		require.EqualError(t, err, "ERR "+live.ErrNotPatched.Error())
		return
	}
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		at, err := ask("LASTSAVE\r\n")
		return err == nil && at != "0"
	}, 3*time.Minute, time.Millisecond)
	assert.NoError(t, newStore().load(s.saver.file))
	info, err := ask("INFO\r\n")
	require.NoError(t, err)
	assert.Contains(t, info, "last_fork_usec:")
}

func TestAFileThatIsDamagedIsNotLoaded(t *testing.T) {
	s := newStore()
	for i := range 1000 {
		s.set(keyName(i), valueOf(i))
	}
	path := filepath.Join(t.TempDir(), "dump.kv")
	require.NoError(t, replaceFile(path, s.encode))
	require.NoError(t, newStore().load(path))
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	for name, bad := range map[string][]byte{
		"short": good[:len(good)-1], "empty": nil, "more": append(bytes.Clone(good), 0),
		"other": bytes.Replace(good, []byte("key:000000007"), []byte("key:000000008"), 1),
	} {
		require.NoError(t, os.WriteFile(path, bad, 0o600))
		assert.Error(t, newStore().load(path), name)
	}
}

// The demo's check finds a file that is not of one instant.
func TestCheckFindsWhatIsNotOfOneInstant(t *testing.T) {
	w := writes{keys: 1003, clients: 4}
	written := []int64{0, 1, 400, 900}
	s := newStore()
	for i := range w.keys {
		s.set(keyName(i), valueOf(0))
	}
	for c, n := range written {
		for i := 1; i <= int(n); i++ {
			s.set(w.key(c, i), valueOf(i))
		}
	}
	path := filepath.Join(t.TempDir(), "dump.kv")
	check := func(before, after []int64) error {
		require.NoError(t, replaceFile(path, s.encode))
		return w.check(path, before, after)
	}
	require.NoError(t, check(written, written))
	assert.Error(t, check([]int64{0, 1, 401, 900}, []int64{9, 9, 999, 999}),
		"an answered write is missing")
	assert.Error(t, check([]int64{0, 0, 0, 0}, []int64{0, 1, 399, 900}),
		"a write that was not sent is there")
	key := w.key(2, 399)
	s.set(key, valueOf(0))
	assert.Error(t, check([]int64{0, 0, 0, 0}, written), "a write before the last is missing")
	s.set(key, valueOf(399))
	require.NoError(t, check(written, written))
	s.del(key)
	assert.Error(t, check(written, written), "a key is missing")
}

func TestDemo(t *testing.T) {
	t.Setenv("KV_MAIN", "1")
	var out bytes.Buffer
	d := demo{schedule{writes{keys: 20_000, clients: 4}, 200}, &out, 200 * time.Millisecond,
		time.Minute}
	m := methods
	if !live.Patched() {
		assert.ErrorContains(t, d.run(methods), live.ErrNotPatched.Error())
		out.Reset()
		m = methods[1:]
	}
	require.NoError(t, d.run(m), out.String())
	assert.Equal(t, len(m), strings.Count(out.String(), "MiB, good"), out.String())
}

func TestADemoThatCannotSaveFails(t *testing.T) {
	t.Setenv("KV_MAIN", "1")
	d := demo{schedule{writes{keys: 100, clients: 2}, 100}, io.Discard, 100 * time.Millisecond,
		time.Minute}
	err := d.run([]method{{name: "none", text: "no method"}})
	assert.ErrorContains(t, err, `no method "none"`)
}
