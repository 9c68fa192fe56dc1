package assumed

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed facts.txt
var facts string

// Unconsidered is the verdict on a fact that nobody has looked at.
const Unconsidered = "?"

// Verdicts has what each verdict means.
var Verdicts = map[string]string{
	"repaired": "the patch names it, and repairs it in the child or takes it before the fork",
	"reset": "a lock that the child frees, as what it guards is never half changed: livego adds " +
		"a file to the lock's package that does so",
	"taken": "a lock that is held for a moment: the fork takes it, and both processes release it, " +
		"by a file that livego adds to the lock's package",
	"idle":  "nobody uses it while the world is stopped and the fork holds its locks and semaphores",
	"kept":  "the parent's value is right in the child",
	"fixed": "it does not change once the program runs",
	"none":  "not used on Linux, or used by debug builds and tests only",
	"held":  "a lock that stays held in the child: the documentation says so",
}

// Considered is a fact in facts.txt.
type Considered struct {
	Fact
	Verdict string
	Minors  []string // the Go versions that have the fact, such as go1.26
}

// List parses facts.txt.
func List() ([]Considered, error) {
	var list []Considered
	for line := range strings.Lines(facts) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		columns := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(columns) != 5 {
			return nil, fmt.Errorf("facts.txt: %q has %d columns in place of 5", line, len(columns))
		}
		list = append(list,
			Considered{Fact{columns[1], columns[2], columns[3]}, columns[0],
				strings.Fields(columns[4])})
	}
	return list, nil
}

// A Difference is how the facts of a source differ from the list.
type Difference struct {
	New  []Fact // not in the list, or of another type there
	Gone []Fact
}

// Compare returns how the facts of a source differ from those that are listed
// for a Go version such as go1.26. It compares facts of the given kinds.
func Compare(list []Considered, minor string, found []Fact, kinds ...string) (d Difference) {
	known := map[Fact]bool{}
	for _, c := range list {
		if c.Verdict != Unconsidered && slices.Contains(c.Minors, minor) &&
			slices.Contains(kinds, c.Kind) {
			known[c.Fact] = true
		}
	}
	seen := map[Fact]bool{}
	for _, fact := range found {
		if !seen[fact] && !known[fact] {
			d.New = append(d.New, fact)
		}
		seen[fact] = true
	}
	for fact := range known {
		if !seen[fact] {
			d.Gone = append(d.Gone, fact)
		}
	}
	sortFacts(d.New)
	sortFacts(d.Gone)
	return d
}

func sortFacts(facts []Fact) {
	slices.SortFunc(facts, func(a, b Fact) int { return strings.Compare(a.String(), b.String()) })
}

// CheckRuntime returns an error if the Go files of package runtime have facts
// that are not listed for a Go version such as go1.26. The error names the
// first ones.
func CheckRuntime(minor string, names []string) error {
	files, err := Files(names)
	if err != nil {
		return fmt.Errorf("%w (the Go that built livego is older than this one?)", err)
	}
	list, err := List()
	if err != nil {
		return err
	}
	d := Compare(list, minor, Runtime(files), "var", "field", "const")
	if len(d.New) == 0 {
		return nil
	}
	var first []string
	for _, fact := range d.New[:min(5, len(d.New))] {
		first = append(first, fact.String())
	}
	return fmt.Errorf("this runtime has %d things that the patch for %s was not checked against: %s",
		len(d.New), minor, strings.Join(first, "; "))
}

// Add adds a Go version to its facts in the list. A fact that the version
// before has, too, keeps its verdict.
func Add(list []Considered, minor, before string, found []Fact) []Considered {
	at := map[Fact]int{}
	for i, c := range list {
		at[c.Fact] = i
	}
	for _, fact := range found {
		i, ok := at[fact]
		switch {
		case !ok:
			at[fact] = len(list)
			list = append(list, Considered{fact, Unconsidered, []string{minor}})
		case slices.Contains(list[i].Minors, minor):
		case slices.Contains(list[i].Minors, before):
			list[i].Minors = append(list[i].Minors, minor)
		default: // an older version has the fact, the version before does not
			list[i].Verdict, list[i].Minors = Unconsidered, append(list[i].Minors, minor)
		}
	}
	return list
}
