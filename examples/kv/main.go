// Kv is a key-value server in memory that speaks Redis's protocol, enough of it
// for redis-cli and redis-benchmark. Kv shows how a server saves millions of
// small objects while clients write to them: in a live-forked child, by package
// live. That needs a program that livego built. For comparison kv can also hold
// its locks while it encodes, and stream to another process.
//
//	kv [-addr host:port] [-file dump.kv]
//
// serves, from the file if there is one. BGSAVE and SAVE write the file.
//
//	kv -demo [-keys n] [-rate n] [-clients n]
//
// starts such a server, and measures what its clients see while it saves.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"runtime"
	"runtime/debug"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:6379", "address to serve at")
	file := flag.String("file", "dump.kv", "file to load and to save to")
	preload := flag.Int("preload", 0, "begin with this many keys instead of the file")
	store := flag.String("store", "", "save standard input to this file, and do nothing else")
	demonstrate := flag.Bool("demo", false, "measure, and print a table")
	d := demo{out: os.Stdout}
	flag.IntVar(&d.keys, "keys", 10_000_000, "keys of the demo, two objects each")
	flag.IntVar(&d.rate, "rate", 4000, "requests a second of the demo, half of them writes")
	flag.IntVar(&d.clients, "clients", 8, "clients of the demo")
	flag.Parse()
	log.SetFlags(0)

	var err error
	switch {
	case *store != "":
		err = replaceFile(*store, copyFrom(os.Stdin))
	case *demonstrate:
		err = d.run(methods)
	default:
		err = serve(*addr, *file, *preload)
	}
	if err != nil {
		log.Fatal("kv: ", err)
	}
}

func serve(addr, file string, preload int) error {
	s := newServer(file)
	// The data stays: a collection while it grows costs more than it frees.
	percent := debug.SetGCPercent(400)
	if preload > 0 {
		for i := range preload {
			s.data.set(keyName(i), valueOf(0))
		}
	} else if err := s.data.load(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	debug.SetGCPercent(percent)
	runtime.GC()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("serving %d keys at %v\n", s.data.len(), l.Addr())
	return s.serve(l)
}
