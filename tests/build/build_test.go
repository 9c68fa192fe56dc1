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
	"forkshm.example/shm/shared"
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
		"{{with .Module}}{{if .Main}}{{$.ImportPath}}{{end}}{{end}}", ".",
		"./cmd/childheader")
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

// A program, or a library, includes the header for children by the README's
// command, wherever the module is. CGO_CFLAGS stays as Go has it.
func TestTheHeaderIsFoundInEveryLayout(t *testing.T) {
	testenv.NeedTime(t)
	command := regexp.MustCompile("(?s)<!-- header -->\n```sh\n(.*?)```").FindStringSubmatch(readme(t))
	require.NotNil(t, command, "the README shows the command")
	module := copyOfModule(t)
	dir := outsideModule(t, module)
	program := must(os.ReadFile("tests/build/testdata/header.go.txt"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), program, 0o644))

	// run runs a script in a folder. Then the program there is to be one that uses the header.
	run := func(dir, script string, env ...string) {
		t.Helper()
		const build = "\ngo env CGO_CFLAGS | grep -e ^-O2\ngo build -o program .\n./program"
		cmd := exec.Command("sh", "-ec", script+build)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), append(env, "CGO_CFLAGS=", "GOWORK=off")...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		assert.Contains(t, string(out), "the object has 8192 bytes\nthe answer is olleh\n")
	}
	header := filepath.Join(dir, "shm_child.h")
	remove := func() { require.NoError(t, os.Remove(header)) }

	run(dir, command[1]) // replaced
	remove()

	cached := fromModuleCache(t, module)
	run(dir, "go mod edit -dropreplace forkshm.example/shm -require forkshm.example/shm@v0.9.0\n"+
		command[1], cached...)

	run(userOf(t, dir), "", cached...) // in a package of a module that another module requires
	remove()

	run(dir, "go mod edit -tool forkshm.example/shm/cmd/childheader\ngo mod vendor\nexport GOFLAGS=-mod=vendor\n"+
		command[1]+"rm shm_child.h\ngo tool childheader\ngo tool childheader -check",
		append(cached, "GOFLAGS=-mod=mod -modcacherw")...)
	run(dir, command[1], "GOFLAGS=-mod=vendor", "GOPROXY=off")

	check := exec.Command("go", "tool", "childheader", "-check")
	check.Dir, check.Env = dir, append(os.Environ(), "GOFLAGS=-mod=vendor")
	require.NoError(t, os.WriteFile(header, []byte("/* of another version */\n"), 0o644))
	out, err := check.CombinedOutput()
	assert.Error(t, err)
	assert.Contains(t, string(out), "shm_child.h is not of this version of package shm")

	remove() // the compiler also finds the header where the module is
	run(dir, `export CGO_CFLAGS="-O2 -I$(go list -f '{{.Dir}}' forkshm.example/shm)/csrc"`, "GOFLAGS=-mod=vendor")
}

// The same command has the header of package shared, and says which headers there are.
func TestTheHeaderOfPackageSharedIsFound(t *testing.T) {
	testenv.NeedTime(t)
	dir := outsideModule(t, must(filepath.Abs(".")))
	program := must(os.ReadFile("tests/build/testdata/shared.go.txt"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), program, 0o644))
	require.NoError(t, testenv.Go(dir, "run", "forkshm.example/shm/cmd/childheader", "shm_shared.h"))
	assert.NoFileExists(t, filepath.Join(dir, "shm_child.h"))
	require.NoError(t, testenv.Go(dir, "run", "forkshm.example/shm/cmd/childheader", "-check", "shm_shared.h"))
	require.NoError(t, testenv.Go(dir, "build", "-o", "program", "."))
	out, err := exec.Command(filepath.Join(dir, "program")).CombinedOutput()
	assert.NoError(t, err)
	assert.Equal(t, shared.ErrOwnerDied.Error()+"\n", string(out))

	assert.ErrorContains(t, testenv.Go(dir, "run", "forkshm.example/shm/cmd/childheader", "stdio.h"),
		`there is no header "stdio.h": shm_child.h and shm_shared.h are there`)
}

// fromModuleCache returns an environment in which the module is in a module cache, as version v0.9.0.
func fromModuleCache(t *testing.T, module string) []string {
	cache := strings.TrimSpace(string(must(exec.Command("go", "env", "GOMODCACHE").Output())))
	return []string{
		"GOFLAGS=-mod=mod -modcacherw", "GOSUMDB=off", "GOMODCACHE=" + t.TempDir(),
		"GOPROXY=file://" + moduleProxy(t, module) + ",file://" + cache + "/cache/download",
	}
}

// userOf makes a module whose program is a package of the module in a folder, which has the header.
func userOf(t *testing.T, module string) string {
	library := filepath.Join(module, "library")
	require.NoError(t, os.MkdirAll(library, 0o755))
	source := string(must(os.ReadFile(filepath.Join(module, "main.go"))))
	source = strings.NewReplacer("package main", "package library", "func main()", "func Main()").Replace(source)
	require.NoError(t, os.WriteFile(filepath.Join(library, "library.go"), []byte(source), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(library, "shm_child.h"),
		must(os.ReadFile(filepath.Join(module, "shm_child.h"))), 0o644))
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module user.example/program\n\ngo 1.24.0\n\nrequire (\n\toutside.example/program v0.0.0\n" +
			"\tforkshm.example/shm v0.9.0\n)\n\nreplace outside.example/program => " + module + "\n",
		"go.sum":  string(must(os.ReadFile("go.sum"))),
		"main.go": "package main\n\nimport \"outside.example/program/library\"\n\nfunc main() { library.Main() }\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
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
	out, err := exec.Command(program, "-test.run=^(TestCrashIsReported|Test.*TellsWhoCalled)$", "-test.v").CombinedOutput()
	assert.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "at crash_here+0x")
	replaced := exec.Command(program, "-test.run=^TestCrashOfAReplacedProgram$", "-test.v")
	replaced.Env = append(os.Environ(), "SHM_TEST_PROCESS=TestCrashOfAReplacedProgram")
	out, err = replaced.CombinedOutput()
	assert.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "--- PASS: TestCrashOfAReplacedProgram")
}
