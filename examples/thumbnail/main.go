//go:build linux && cgo

// Command thumbnail is an HTTP server that makes thumbnails of JPEG and PNG files
// by libjpeg and libpng. The files come from strangers, and the libraries run in
// the children of a [shm.Pool]: a file that takes such a child over gains nothing.
//
//	go run . -addr localhost:8080
//	curl --data-binary @photo.jpg localhost:8080/thumbnail > small.jpg
//
// With -load, the command sends files of all kinds to itself, checks each
// response, and prints what became of them. With -walls, it prints what each
// line of its configuration takes away from an attacker. It exits with status 1
// if a response was wrong.
package main

import (
	"errors"
	"expvar"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"forkshm.example/shm"
)

func main() {
	log.SetFlags(0)
	addr := flag.String("addr", "localhost:8080", "address to serve at")
	isLoad := flag.Bool("load", false, "send files to a server of this process, and print what became of them")
	isWalls := flag.Bool("walls", false, "print what each line of the configuration takes away")
	requests := flag.Int("requests", 2000, "number of requests of -load")
	clients := flag.Int("clients", 8, "clients of -load that send at the same time")
	bad := flag.Int("bad", 20, "percentage of files of -load that are not good")
	children := flag.Int("children", 4, "number of children")
	cpu := flag.Duration("cpu", 500*time.Millisecond, "processor time for a file")
	deadline := flag.Duration("deadline", 10*time.Second, "time for a file")
	here := flag.Bool("here", false, "decode standard input in this process, as -walls has another process do")
	flag.Parse()

	cfg := safest(*cpu)
	var err error
	switch {
	case *here:
		err = decodeHere()
	case *isWalls:
		err = printWalls(os.Stdout, cfg)
	case *isLoad:
		err = runLoad(os.Stdout, cfg, *children, *deadline, load{*requests, *clients, *bad})
	default:
		err = serve(*addr, cfg, *children, *deadline)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// maxFile is the most bytes that a file can have.
const maxFile = 8 << 20

// safest is the configuration that the example is for. Each line takes something
// away from an attacker: see walls.go.
func safest(cpu time.Duration) shm.PoolConfig {
	return shm.PoolConfig{
		Fork: shm.ForkConfig{
			Sandbox:     &shm.Sandbox{}, // nothing but to compute
			MemoryLimit: 256 << 20,
		},
		CPUTime:    cpu,
		MaxCalls:   1,    // no file meets the child of another
		ForkServer: true, // so that a new child for each file costs little
		MaxIn:      maxFile,
		MaxOut:     1 << 20,

		RestartRate: 10000, // files that end their child are frequent here; a real server sets less
	}
}

// newHandler makes the server's pool. Close the pool.
func newHandler(cfg shm.PoolConfig, children int, deadline time.Duration) (http.Handler, *thumbnailer, error) {
	pool, err := shm.NewPool(nil, children, &cfg)
	if err != nil {
		return nil, nil, err
	}
	t := &thumbnailer{pool, deadline}
	mux := http.NewServeMux()
	mux.Handle("POST /thumbnail", t)
	mux.Handle("GET /debug/vars", expvar.Handler())
	return mux, t, nil
}

func serve(addr string, cfg shm.PoolConfig, children int, deadline time.Duration) error {
	handler, t, err := newHandler(cfg, children, deadline)
	if err != nil {
		return err
	}
	defer t.pool.Close()
	expvar.Publish("shm", expvar.Func(func() any { return shm.ReadCounters() }))
	expvar.Publish("pool", expvar.Func(func() any { return t.pool.Stats() }))
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	log.Printf("POST a JPEG or a PNG to http://%s/thumbnail", listener.Addr())
	return http.Serve(listener, handler)
}

// thumbnailer makes thumbnails.
type thumbnailer struct {
	pool     *shm.Pool
	deadline time.Duration
}

func (t *thumbnailer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	file, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFile))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	out, err := t.thumbnail(r.Context(), file)
	if err != nil {
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	// The child may have been taken over: these bytes are an image only if a browser can show them as one.
	w.Header().Set("Content-Type", "image/jpeg")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(out)
}

// statusOf returns the status of a response that is an error.
func statusOf(err error) int {
	var ended *shm.ExitError
	var refused *refusal
	switch {
	case errors.As(err, &refused) && refused.attacked:
		return http.StatusInternalServerError
	case errors.As(err, &refused):
		return http.StatusUnprocessableEntity
	case errors.Is(err, shm.ErrNotStarted):
		return http.StatusServiceUnavailable // the client can send the file again
	case errors.As(err, &ended) && ended.Denied != nil:
		return http.StatusForbidden
	case errors.As(err, &ended):
		return http.StatusUnprocessableEntity
	}
	return http.StatusGatewayTimeout // its time was up: context.DeadlineExceeded, shm.ErrCPUTime
}

// refusal is what the C says of a file that it makes no thumbnail of.
type refusal struct {
	why      string
	attacked bool // an attack has succeeded: the C says so, to show what there is to gain
}

func (r *refusal) Error() string { return fmt.Sprintf("%q", r.why) }
