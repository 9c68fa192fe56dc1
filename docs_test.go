package shm_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// docs/ARCHITECTURE.md says where a change belongs. It must know every file of this package, and
// name none that is gone.
func TestArchitectureNamesEachFile(t *testing.T) {
	page, err := os.ReadFile("docs/ARCHITECTURE.md")
	require.NoError(t, err)
	named := map[string]bool{}
	for _, name := range regexp.MustCompile(`[\w/.]+\.[ch]\b|[\w/.]+\.go\b`).FindAllString(string(page), -1) {
		named[filepath.Base(name)] = true
	}
	there := map[string]bool{}
	for _, pattern := range []string{"*.go", "csrc/*.[ch]", "shared/*.go", "shared/csrc/*.[ch]"} {
		paths, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, path := range paths {
			there[filepath.Base(path)] = true
			if strings.HasPrefix(path, "shared") || strings.HasSuffix(path, "_test.go") {
				continue // the page names those of package shared that matter most
			}
			source := strings.TrimSuffix(filepath.Base(path), ".h") + ".c"
			assert.True(t, named[filepath.Base(path)] || named[source], "%s is not in the page", path)
		}
	}
	for name := range named {
		assert.True(t, there[name] || name == "shm_test.go", "the page names %s, which is not there", name)
	}
}

func TestArchitectureNamesEachFolder(t *testing.T) {
	page, err := os.ReadFile("docs/ARCHITECTURE.md")
	require.NoError(t, err)
	for _, pattern := range []string{"*/*.go", "tools/*/*.go", "internal/*/*.go", "cmd/*/*.go", "tests/*/*.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			folder := filepath.Dir(file)
			if strings.HasPrefix(folder, "tools/") {
				folder = "tools"
			}
			assert.Contains(t, string(page), "`"+folder+"`", "the page does not name the folder")
		}
	}
}

func TestDocsLinkToFilesThatExist(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	for _, pattern := range []string{"*.md", "docs/*.md", "examples/*.md", "examples/*/*.md"} {
		pages, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, page := range pages {
			text, err := os.ReadFile(page)
			require.NoError(t, err)
			for _, found := range link.FindAllStringSubmatch(string(text), -1) {
				_, err := os.Stat(filepath.Join(filepath.Dir(page), found[1]))
				assert.NoError(t, err, "a link of %s", page)
			}
		}
	}
}
