// Check compares Go releases with what the patch for live forks assumes, and
// prints what nobody has considered yet.
//
//	go run ./internal/livepatch/check GOROOT...
//	go run ./internal/livepatch/check -add GOROOT
//
// If the release's version is not listed in facts.txt, Check compares with the
// latest version that is listed. Run Check by the same Go release, so that
// Check can parse its syntax.
//
// With -add, Check writes the facts of a new version into facts.txt. A fact
// that the latest listed version has, too, keeps its verdict. Another fact gets
// a question mark, and a person must replace it by a verdict.
package main

import (
	"bufio"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"forkshm.example/shm/internal/livepatch"
	"forkshm.example/shm/internal/livepatch/assumed"
)

const factsFile = "internal/livepatch/assumed/facts.txt"

func main() {
	add := flag.Bool("add", false, "write the facts of a new version into "+factsFile)
	flag.Parse()
	if err := run(*add, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
}

func run(add bool, roots []string) error {
	list, err := assumed.List()
	if err != nil {
		return err
	}
	if len(roots) == 0 || add && len(roots) != 1 {
		return errors.New("name at least one GOROOT (with -add: exactly one)")
	}
	differ := false
	for _, root := range roots {
		version, found, err := facts(root)
		if err != nil {
			return err
		}
		minor, against := versions(version)
		if add {
			return write(assumed.Add(list, minor, against, found))
		}
		d := assumed.Compare(list, against, found, "var", "field", "const", "lock")
		fmt.Printf("%s, against the list of %s: %d facts, %d new, %d gone\n", version, against,
			len(found), len(d.New), len(d.Gone))
		for _, fact := range d.New {
			fmt.Println("\tnew: ", fact)
		}
		for _, fact := range d.Gone {
			fmt.Println("\tgone:", fact)
		}
		differ = differ || len(d.New)+len(d.Gone) > 0
	}
	if differ {
		return errors.New("there is something that the patch was not checked against")
	}
	return nil
}

// facts returns the facts of a GOROOT, and its version.
func facts(root string) (version string, found []assumed.Fact, err error) {
	text, err := os.ReadFile(filepath.Join(root, "VERSION"))
	if err != nil {
		return "", nil, err
	}
	version, _, _ = strings.Cut(string(text), "\n")
	files, err := assumed.Folder(filepath.Join(root, "src/runtime"))
	if err != nil {
		return "", nil, err
	}
	locks, err := assumed.Library(filepath.Join(root, "src"))
	return version, append(assumed.Runtime(files), locks...), err
}

// versions returns the version to which a release belongs, and the listed
// version with which it is compared.
func versions(release string) (minor, against string) {
	if known, err := livepatch.Known(release); err == nil {
		return known, known
	}
	// go1.28rc1
	parts := strings.FieldsFunc(release,
		func(r rune) bool { return r == '.' || r == 'r' || r == 'b' })
	minor = strings.Join(parts[:min(2, len(parts))], ".")
	return minor, livepatch.Versions[len(livepatch.Versions)-1]
}

// write writes facts.txt, and keeps its comment.
func write(list []assumed.Considered) error {
	old, err := os.ReadFile(factsFile)
	if err != nil {
		return err
	}
	file, err := os.Create(factsFile)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(file)
	for line := range strings.Lines(string(old)) {
		if strings.HasPrefix(line, "#") {
			fmt.Fprint(out, line)
		}
	}
	kinds := []string{"var", "field", "const", "lock"}
	slices.SortStableFunc(list, func(a, b assumed.Considered) int {
		return cmp.Or(cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)),
			cmp.Compare(a.Name, b.Name), cmp.Compare(a.Verdict, b.Verdict),
			cmp.Compare(a.Type, b.Type))
	})
	for _, c := range list {
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\n", c.Verdict, c.Kind, c.Name, c.Type,
			strings.Join(c.Minors, " "))
	}
	return errors.Join(out.Flush(), file.Close())
}
