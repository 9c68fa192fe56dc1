package live

import (
	"io"
	"log"
	"os"
	"slices"
)

var (
	standard = [...]*os.File{os.Stdin, os.Stdout, os.Stderr}
	// The file of the standard logger in a child, or nil if the logger writes
	// elsewhere.
	logFile   *os.File
	inherited [][3]*os.File // kept: their finalizers would close the descriptors
)

// renewStandardFiles gives the child new standard files, and a new file for the
// standard logger, since a frozen goroutine may have been writing to the old
// ones. Files that the program had put in the place of the standard files stay.
// A file that is closed stays closed: another file may have its number.
func renewStandardFiles() {
	inherited = append(inherited, standard)
	logFile = nil
	for i, file := range []**os.File{&os.Stdin, &os.Stdout, &os.Stderr} {
		if _, open := descriptor(standard[i]); open && *file == standard[i] {
			old := standard[i]
			*file = os.NewFile(uintptr(i), old.Name())
			standard[i] = *file
			if log.Writer() == io.Writer(old) {
				log.SetOutput(*file)
			}
		}
	}
	// The logger gets a duplicate, since the program may close its own file.
	if file, ok := log.Writer().(*os.File); ok && !slices.Contains(standard[:], file) {
		if file, err := duplicate(file); err == nil {
			logFile = file
			log.SetOutput(file)
		}
	}
}
