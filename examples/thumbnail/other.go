//go:build !linux || !cgo

package main

import "log"

func main() { log.Fatal("thumbnail: needs Linux, cgo, libjpeg and libpng") }
