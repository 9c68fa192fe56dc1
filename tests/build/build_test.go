//go:build linux && cgo

// Package build_test builds this module, and programs that use it, as their
// users do.
package build_test

import (
	"archive/zip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"forkshm.example/shm/internal/testenv"
)

func TestMain(m *testing.M) {
	must(0, os.Chdir(testenv.Root()))
	os.Exit(m.Run())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// copyOfModule copies what the package is built from.
func copyOfModule(t *testing.T) string {
	dir := t.TempDir()
	folders := []string{"csrc"}
	list := exec.Command("go", "list", "-deps", "-f",
		"{{with .Module}}{{if .Main}}{{$.ImportPath}}{{end}}{{end}}", ".")
	for pkg := range strings.FieldsSeq(string(must(list.Output()))) {
		folders = append(folders, "."+strings.TrimPrefix(pkg, "forkshm.example/shm"))
	}
	for _, folder := range folders {
		for _, entry := range must(os.ReadDir(folder)) {
			if entry.IsDir() || strings.HasSuffix(entry.Name(), "_test.go") {
				continue
			}
			file := filepath.Join(folder, entry.Name())
			to := filepath.Join(dir, file)
			require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
			require.NoError(t, os.WriteFile(to, must(os.ReadFile(file)), 0o644))
		}
	}
	return dir
}

// outsideModule makes a module with the README's program, that uses this
// package from a folder.
func outsideModule(t *testing.T, shm string) string {
	dir := t.TempDir()
	xsys := regexp.MustCompile(`golang.org/x/sys v\S+`).FindString(string(must(os.ReadFile("go.mod"))))
	gomod := "module outside.example/program\n\ngo 1.24.0\n\nrequire (\n\tforkshm.example/shm " +
		"v0.0.0\n\t" + xsys +
		" // indirect\n)\n\nreplace forkshm.example/shm => " + shm + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(gomod), 0o644))
	require.NoError(t,
		os.WriteFile(filepath.Join(dir, "go.sum"), must(os.ReadFile("go.sum")), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(readmeProgram(t)), 0o644))
	return dir
}

func readme(t *testing.T) string { return string(must(os.ReadFile("README.md"))) }

func readmeProgram(t *testing.T) string {
	m := regexp.MustCompile("(?s)<!-- program -->\n```go\n(.*?)```").FindStringSubmatch(readme(t))
	require.NotNil(t, m, "the README shows a whole program")
	return m[1]
}

// The build sees edits of C that a preamble includes, because the package
// embeds the C.
func TestEditsOfCAreSeen(t *testing.T) {
	testenv.NeedTime(t)
	t.Setenv("TMPDIR", t.TempDir()) // cgo leaves files there where the C does not compile
	for _, file := range []string{"csrc/shm.c", "csrc/shm.h"} {
		dir := copyOfModule(t)
		require.NoError(t, testenv.Go(dir, "build", "."))
		c := filepath.Join(dir, file)
		require.NoError(t,
			os.WriteFile(c, append([]byte("#error edited\n"), must(os.ReadFile(c))...), 0o644))
		assert.ErrorContains(t, testenv.Go(dir, "build", "."), "#error edited",
			"an edit of %s was not seen", file)
	}
}

func TestVendoringCarriesTheC(t *testing.T) {
	testenv.NeedTime(t)
	dir := outsideModule(t, copyOfModule(t))
	require.NoError(t, testenv.Go(dir, "mod", "vendor"))
	assert.FileExists(t, filepath.Join(dir, "vendor/forkshm.example/shm/csrc/shm.c"))
	assert.FileExists(t, filepath.Join(dir, "vendor/forkshm.example/shm/csrc/shm.h"))
	require.NoError(t, testenv.Go(dir, "build", "-mod=vendor", "-o", "program", "."))
	assertReadmeProgramRuns(t, filepath.Join(dir, "program"))
}

// A program includes the header for children by the README's command, wherever
// the module is.
func TestTheHeaderIsFoundInEveryLayout(t *testing.T) {
	testenv.NeedTime(t)
	command := regexp.MustCompile("(?s)<!-- header -->\n```sh\n(.*?)```").FindStringSubmatch(readme(t))
	require.NotNil(t, command, "the README shows the command")
	build := func(dir string, env ...string) {
		cmd := exec.Command("sh", "-ec",
			command[1]+"env | grep ^CGO_CFLAGS=.*-O2\ngo build -o program .\n./program")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		assert.Contains(t, string(out), "the object has 8192 bytes\n")
	}
	module := copyOfModule(t)
	dir := outsideModule(t, module)
	program := must(os.ReadFile("tests/build/testdata/header.go.txt"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), program, 0o644))
	build(dir)

	require.NoError(t,
		testenv.Go(dir, "mod", "edit", "-dropreplace", "forkshm.example/shm", "-require",
			"forkshm.example/shm@v0.9.0"))
	cache := strings.TrimSpace(string(must(exec.Command("go", "env", "GOMODCACHE").Output())))
	cached := []string{"GOFLAGS=-mod=mod -modcacherw", "GOSUMDB=off", "GOMODCACHE=" + t.TempDir(),
		"GOPROXY=file://" + moduleProxy(t, module) + ",file://" + cache + "/cache/download"}
	build(dir, cached...)

	vendor := exec.Command("go", "mod", "vendor")
	vendor.Dir, vendor.Env = dir, append(os.Environ(), cached...)
	out, err := vendor.CombinedOutput()
	require.NoError(t, err, "%s", out)
	build(dir, "GOFLAGS=-mod=vendor", "GOPROXY=off")
}

// moduleProxy makes a folder that the go command takes for a module proxy, with
// the module as version v0.9.0.
func moduleProxy(t *testing.T, module string) string {
	proxy := t.TempDir()
	at := filepath.Join(proxy, "forkshm.example/shm/@v")
	require.NoError(t, os.MkdirAll(at, 0o755))
	gomod := must(os.ReadFile("go.mod"))
	require.NoError(t, os.WriteFile(filepath.Join(at, "v0.9.0.mod"), gomod, 0o644))
	require.NoError(t,
		os.WriteFile(filepath.Join(at, "v0.9.0.info"), []byte(`{"Version": "v0.9.0"}`), 0o644))
	file := must(os.Create(filepath.Join(at, "v0.9.0.zip")))
	defer file.Close()
	archive := zip.NewWriter(file)
	const prefix = "forkshm.example/shm@v0.9.0/"
	must(must(archive.Create(prefix + "go.mod")).Write(gomod))
	require.NoError(t,
		filepath.WalkDir(module, func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || entry.Name() == "go.mod" {
				return err
			}
			must(must(archive.Create(prefix +
				must(filepath.Rel(module, path)))).Write(must(os.ReadFile(path))))
			return nil
		}))
	require.NoError(t, archive.Close())
	return proxy
}

func TestReadmeProgramRuns(t *testing.T) {
	testenv.NeedTime(t)
	dir := outsideModule(t, must(filepath.Abs(".")))
	for _, tags := range []string{"", "devzero"} {
		require.NoError(t, testenv.Go(dir, "vet", "-tags", tags, "."))
		require.NoError(t, testenv.Go(dir, "build", "-tags", tags, "-o", "program", "."))
		assertReadmeProgramRuns(t, filepath.Join(dir, "program"))
	}
}

func assertReadmeProgramRuns(t *testing.T, program string) {
	out, err := exec.Command(program).CombinedOutput()
	assert.NoError(t, err)
	assert.Regexp(t,
		`^in parent, value: 2\nchild \d+: signal: segmentation fault( \(core dumped\))?, address 0x1000, at crash\+0x`, string(out))
}

// With a symbol table the report names the function.
func TestCrashIsReportedByName(t *testing.T) {
	testenv.NeedTime(t)
	program := filepath.Join(t.TempDir(), "shm.test")
	require.NoError(t,
		testenv.Go(testenv.Root(), "test", "-c", "-o", program, "-tags",
			testenv.BuildSetting("-tags"), "."))
	out, err := exec.Command(program, "-test.run=^TestCrashIsReported$", "-test.v").CombinedOutput()
	assert.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "at crash_here+0x")
	replaced := exec.Command(program, "-test.run=^TestCrashOfAReplacedProgram$", "-test.v")
	replaced.Env = append(os.Environ(), "SHM_TEST_PROCESS=TestCrashOfAReplacedProgram")
	out, err = replaced.CombinedOutput()
	assert.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "--- PASS: TestCrashOfAReplacedProgram")
}
