package assumed_test

import (
	"go/build"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"forkshm.example/shm/internal/livepatch"
	"forkshm.example/shm/internal/livepatch/assumed"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func list(t *testing.T) []assumed.Considered {
	list, err := assumed.List()
	require.NoError(t, err)
	return list
}

func TestEachFactIsConsidered(t *testing.T) {
	listed := map[string]int{}
	for _, c := range list(t) {
		assert.NotEmpty(t, assumed.Verdicts[c.Verdict], "%v", c.Fact)
		for _, minor := range c.Minors {
			assert.Contains(t, livepatch.Versions, minor, "%v", c.Fact)
			listed[minor]++
		}
	}
	for _, minor := range livepatch.Versions {
		assert.Greater(t, listed[minor], 800, minor)
	}
}

// The Go that the tests run by. make live-check has the others.
func TestThisGoHasNothingNew(t *testing.T) {
	minor, err := livepatch.Known(runtime.Version())
	require.NoError(t, err)
	src := filepath.Join(build.Default.GOROOT, "src")
	files, err := assumed.Folder(filepath.Join(src, "runtime"))
	require.NoError(t, err)
	locks, err := assumed.Library(src)
	require.NoError(t, err)
	d := assumed.Compare(list(t), minor, append(assumed.Runtime(files), locks...), "var", "field",
		"const", "lock")
	assert.Empty(t, d.New)
	assert.Empty(t, d.Gone)
}

func TestWhatIsRepairedIsNamedInThePatch(t *testing.T) {
	names, err := filepath.Glob("../*.go.txt")
	require.NoError(t, err)
	names = append(names, "../edits.go")
	var patch strings.Builder
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		patch.Write(text)
	}
	words := regexp.MustCompile(`\w+`).FindAllString(patch.String(), -1)
	slices.Sort(words)
	for _, c := range list(t) {
		if c.Verdict == "repaired" && c.Name != "gQueue.head" && c.Name != "gQueue.tail" &&
			c.Name != "gQueue.size" {
			// The name must stand as a whole word.
			_, found := slices.BinarySearch(words, c.Name[strings.LastIndex(c.Name, ".")+1:])
			assert.True(t, found, "%v is not named", c.Fact)
		}
	}
}

func TestWhatIsNewInARuntimeIsNamed(t *testing.T) {
	minor, err := livepatch.Known(runtime.Version())
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "new.go")
	write := func(text string) error {
		require.NoError(t, os.WriteFile(file, []byte("package runtime\n"+text), 0o666))
		return assumed.CheckRuntime(minor, []string{file})
	}
	assert.NoError(t, write("var allm *m\nvar table = [2]int{1, 2}\nfunc f() { allm = nil }\n"),
		"known, and never written to")
	assert.ErrorContains(t, write("var parkedOn mutex\nfunc f() { lock(&parkedOn) }\n"),
		"var parkedOn mutex")
	assert.ErrorContains(t, write("var allm []*m\nfunc f() { allm = nil }\n"), "var allm []*m",
		"of another type")
	assert.ErrorContains(t, write("type schedt struct { parked gList }\n"),
		"field schedt.parked gList")
	assert.ErrorContains(t, write("const (\n_Gidle = iota\n_Gparked\n)\n"),
		"const _Gparked after _Gidle")
	assert.ErrorContains(t, write("var parkedOn mutex!\n"), "expected")
}

func TestANewVersionKeepsVerdictsAndAsksForOthers(t *testing.T) {
	old := assumed.Fact{Kind: "var", Name: "allm", Type: "*m"}
	back := assumed.Fact{Kind: "var", Name: "back", Type: "int"}
	fresh := assumed.Fact{Kind: "var", Name: "fresh", Type: "mutex"}
	got := assumed.Add([]assumed.Considered{
		{Fact: old, Verdict: "repaired", Minors: []string{"go1.27"}},
		{Fact: back, Verdict: "kept", Minors: []string{"go1.26"}},
	}, "go1.28", "go1.27", []assumed.Fact{old, back, fresh, fresh})
	assert.Equal(t, []assumed.Considered{
		{Fact: old, Verdict: "repaired", Minors: []string{"go1.27", "go1.28"}},
		{Fact: back, Verdict: "?", Minors: []string{"go1.26", "go1.28"}},
		{Fact: fresh, Verdict: "?", Minors: []string{"go1.28"}},
	}, got)
}
