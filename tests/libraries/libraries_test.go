//go:build linux && cgo && livego

package libraries

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"forkshm.example/shm"
	"forkshm.example/shm/live"

	_ "github.com/mattn/go-sqlite3"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const rows = 2000

// reading is set to a database's folder in a process that is to read it.
const reading = "LIBRARIES_TEST_READS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(reading); dir != "" {
		if err := readSlowly(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func wait(t *testing.T, p *shm.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	err := p.Wait(ctx)
	if ctx.Err() != nil {
		_ = p.Kill()
	}
	assert.NoError(t, err)
}

// status returns a child's exit status.
func status(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

func tell(dir, name string) { _ = os.WriteFile(filepath.Join(dir, name), nil, 0o600) }

// await waits until the other process tells this. That process may have ended before.
func await(dir, name string) {
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return
		}
	}
	panic("nobody told " + name)
}

func openSQLite(dir string) (*sql.DB, error) {
	return sql.Open("sqlite3", "file:"+filepath.Join(dir, "db")+"?_busy_timeout=0")
}

func makeSQLite(t *testing.T, dir string) *sql.DB {
	db, err := openSQLite(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	tx, err := db.Begin()
	require.NoError(t, err)
	_, err = tx.Exec("create table t(a, b)")
	require.NoError(t, err)
	for range rows {
		_, err = tx.Exec("insert into t values(0, hex(zeroblob(500)))")
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
	return db
}

// readSlowly reads a database, and has its writer write in the midst of it.
func readSlowly(dir string) error {
	db, err := openSQLite(dir)
	if err != nil {
		return err
	}
	defer db.Close()
	result, err := db.Query("select a from t")
	if err != nil {
		return err
	}
	defer result.Close()
	n := 0
	for ; result.Next(); n++ {
		var a int
		if err := result.Scan(&a); err != nil {
			return err
		}
		if a != 0 {
			return fmt.Errorf("row %d is of after the update", n)
		}
		if n == 10 {
			tell(dir, "reads")
			await(dir, "written")
		}
	}
	if n != rows {
		return fmt.Errorf("%d rows", n)
	}
	return result.Err()
}

func updateIsRefused(t *testing.T, db *sql.DB, dir string) {
	t.Helper()
	await(dir, "reads")
	_, err := db.Exec("update t set a = 1")
	assert.ErrorContains(t, err, "database is locked")
	tell(dir, "written")
}

// A child may open a database that its parent does not have open at the fork.
func TestSQLiteThatIsClosedOverTheFork(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, makeSQLite(t, dir).Close())
	p, err := live.Go(func() int { return status(readSlowly(dir)) })
	require.NoError(t, err)
	db, err := openSQLite(dir)
	require.NoError(t, err)
	defer db.Close()
	updateIsRefused(t, db, dir)
	wait(t, p)
	_, err = db.Exec("update t set a = 1")
	assert.NoError(t, err)
}

// A program that the child executes knows nothing of the parent's locks.
func TestSQLiteInAProgramOfTheChilds(t *testing.T) {
	dir := t.TempDir()
	db := makeSQLite(t, dir)
	open, err := db.Query("select a from t") // somebody reads at the fork
	require.NoError(t, err)
	require.True(t, open.Next())
	self, err := os.Executable()
	require.NoError(t, err)
	p, err := live.Go(func() int {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), reading+"="+dir)
		cmd.Stderr = os.Stderr
		return status(cmd.Run())
	})
	require.NoError(t, err)
	require.NoError(t, open.Close())
	updateIsRefused(t, db, dir)
	wait(t, p)
	_, err = db.Exec("update t set a = 1")
	assert.NoError(t, err)
}

// What bbolt maps is the file, which its writer changes. A transaction keeps
// the pages that it can see.
func TestBboltTransactionThatWasBegunBeforeTheFork(t *testing.T) {
	dir := t.TempDir()
	db, err := bbolt.Open(filepath.Join(dir, "db"), 0o600,
		&bbolt.Options{NoSync: true, InitialMmapSize: 64 << 20})
	require.NoError(t, err)
	defer db.Close()
	set := func(version byte) {
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			for i := 0; i < rows && err == nil; i++ {
				err = b.Put(fmt.Appendf(nil, "%08d", i), append(make([]byte, 99), version))
			}
			return err
		}))
	}
	set(7)
	tx, err := db.Begin(false)
	require.NoError(t, err)
	p, err := live.GoWith(func() int {
		n := 0
		err := tx.Bucket([]byte("b")).ForEach(func(_, v []byte) error {
			if v[99] != 7 {
				return fmt.Errorf("entry %d is of version %d", n, v[99])
			}
			if n++; n == 10 {
				tell(dir, "reads")
				await(dir, "written")
			}
			return nil
		})
		if err == nil && n != rows {
			err = fmt.Errorf("%d entries", n)
		}
		return status(err)
	}, &live.Config{DropFDs: true})
	require.NoError(t, err)
	await(dir, "reads")
	for version := range 20 {
		set(byte(version + 10))
	}
	tell(dir, "written")
	wait(t, p)
	require.NoError(t, tx.Rollback())
}

// stuck is a file that somebody is writing to at the fork.
type stuck struct{ begun, end chan bool }

func (s stuck) Write(p []byte) (int, error) {
	if live.Child() {
		return len(p), nil
	}
	s.begun <- true
	<-s.end
	return len(p), nil
}

func (s stuck) Sync() error { return nil }

// Their locks are held in the child, where loggers that it makes anew work.
func TestLoggersThatTheChildMakesAnew(t *testing.T) {
	for name, logger := range map[string]func(w zapcore.WriteSyncer) func(){
		"zap": func(w zapcore.WriteSyncer) func() {
			l := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()),
				zapcore.Lock(w), zap.InfoLevel))
			return func() { l.Info("text") }
		},
		"zerolog": func(w zapcore.WriteSyncer) func() {
			l := zerolog.New(zerolog.SyncWriter(w))
			return func() { l.Info().Msg("text") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := stuck{make(chan bool), make(chan bool)}
			log := logger(file)
			done := make(chan bool)
			go func() { log(); close(done) }()
			<-file.begun
			var out bytes.Buffer
			p, err := live.Go(func() int {
				logger(zapcore.AddSync(&out))()
				if !bytes.Contains(out.Bytes(), []byte("text")) {
					return 1
				}
				return 0
			})
			require.NoError(t, err)
			wait(t, p)
			file.end <- true
			<-done
		})
	}
}

// A leak checker finds what the child leaves, once it ignores what the child
// inherited.
func TestLeaksOfTheChild(t *testing.T) {
	stop := make(chan bool)
	defer close(stop)
	go func() { <-stop }()
	p, err := live.Go(func() int {
		inherited := goleak.IgnoreCurrent()
		if err := goleak.Find(inherited); err != nil {
			return status(err)
		}
		go func() { select {} }()
		err := goleak.Find(inherited)
		if err == nil || bytes.Contains([]byte(err.Error()), []byte("inherited")) {
			return status(fmt.Errorf("found %w", err))
		}
		return 0
	})
	require.NoError(t, err)
	wait(t, p)
}
