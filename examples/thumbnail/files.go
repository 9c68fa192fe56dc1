//go:build linux && cgo

package main

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"strings"
)

// A file is one that a client sends, and how a server may respond to it.
type file struct {
	kind  string
	bytes []byte
	want  []int // the statuses that are right; a good file has 200 alone
}

// files are those of one load. All but the corrupt ones are always the same.
type files struct {
	good, bad []file
}

func newFiles() files {
	picture := newPicture(1024, 768)
	var jpg, png24 bytes.Buffer
	must(jpeg.Encode(&jpg, picture, nil))
	must(png.Encode(&png24, picture))
	f := files{
		good: []file{{"good", jpg.Bytes(), []int{200}}, {"good", png24.Bytes(), []int{200}}},
		bad: []file{
			{"cut", jpg.Bytes()[:jpg.Len()/2], []int{200, 422}},
			{"cut", png24.Bytes()[:png24.Len()/2], []int{200, 422}},
			{"huge", bomb(), []int{422}},
			{"slow", slow(jpg.Bytes()), []int{200, 422, 504}},
			{"no image", []byte(strings.Repeat("text ", 1000)), []int{422}},
		},
	}
	for _, name := range []string{"open", "connect", "fork", "peek", "signal"} {
		f.bad = append(f.bad, malicious(name, 403))
	}
	for _, name := range []string{"write", "abort", "poison"} {
		f.bad = append(f.bad, malicious(name, 422))
	}
	f.bad = append(f.bad, malicious("loop", 504))
	return f
}

// pick returns a file at random. So many of a hundred are bad.
func (f files) pick(bad int) file {
	if rand.IntN(100) >= bad {
		return f.good[rand.IntN(len(f.good))]
	}
	if rand.IntN(3) == 0 {
		return corrupt(f.good[rand.IntN(len(f.good))].bytes)
	}
	return f.bad[rand.IntN(len(f.bad))]
}

// newPicture makes a picture whose upper half is red and whose lower half is blue.
func newPicture(width, height int) image.Image {
	p := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			c := color.RGBA{200, byte(x), 0, 255}
			if y >= height/2 {
				c = color.RGBA{0, byte(x), 200, 255}
			}
			p.SetRGBA(x, y, c)
		}
	}
	return p
}

// isThumbnail reports whether bytes are a thumbnail of newPicture(1024, 768).
func isThumbnail(b []byte) bool {
	p, err := jpeg.Decode(bytes.NewReader(b))
	if err != nil || p.Bounds().Dx() != 128 || p.Bounds().Dy() != 96 {
		return false
	}
	topRed, _, topBlue, _ := p.At(64, 20).RGBA()
	bottomRed, _, bottomBlue, _ := p.At(64, 75).RGBA()
	return topRed > topBlue && bottomBlue > bottomRed
}

// corrupt changes some bytes of a file, which may stay an image.
func corrupt(good []byte) file {
	b := bytes.Clone(good)
	for range 1 + rand.IntN(20) {
		b[3+rand.IntN(len(b)-3)] = byte(rand.Uint32())
	}
	return file{"corrupt", b, []int{200, 422, 504}}
}

// bomb returns a small PNG that has 16000 x 16000 pixels.
func bomb() []byte {
	const side = 16000
	var data bytes.Buffer
	z := zlib.NewWriter(&data)
	row := make([]byte, 1+side/8) // the row's filter, and a bit for each pixel
	for range side {
		_, err := z.Write(row)
		must(err)
	}
	must(z.Close())
	var header bytes.Buffer
	must(binary.Write(&header, binary.BigEndian,
		struct {
			Width, Height                             uint32
			Depth, Color, Compression, Filter, Passes uint8
		}{Width: side, Height: side, Depth: 1}))
	b := []byte("\x89PNG\r\n\x1a\n")
	b = appendChunk(b, "IHDR", header.Bytes())
	b = appendChunk(b, "IDAT", data.Bytes())
	return appendChunk(b, "IEND", nil)
}

// appendChunk appends a chunk of a PNG: its length, its name, its data, and the
// checksum of name and data.
func appendChunk(b []byte, name string, data []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	start := len(b)
	b = append(append(b, name...), data...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[start:]))
}

// slow returns a JPEG that claims 65500 x 65500 pixels. libjpeg makes up those
// that are missing, one after another.
func slow(good []byte) []byte {
	b := bytes.Clone(good)
	frame := bytes.Index(b, []byte{0xff, 0xc0}) // then length, precision, height, width
	binary.BigEndian.PutUint16(b[frame+5:], 65500)
	binary.BigEndian.PutUint16(b[frame+7:], 65500)
	return b
}

// malicious returns a file of the made-up format of attack.c.
func malicious(attack string, want int) file {
	return file{"malicious: " + attack, []byte("HURT" + attack), []int{want}}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
