package usher_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// allowed names, for each top folder, the top folders of ours that it may import:
// cmd → gateway → queue → internal, cmd → booking → internal, cmd → web.
var allowed = map[string][]string{
	"cmd":      {"gateway", "queue", "booking", "web", "internal"},
	"bench":    {"gateway", "queue", "booking", "web", "internal"},
	"gateway":  {"queue", "internal"},
	"queue":    {"internal"},
	"booking":  {"internal"},
	"web":      {},
	"internal": {"internal"},
}

// routes tells whether a file of booking or queue is about HTTP, so that it may
// name gin and huma; all others are the domain.
func routes(file string) bool {
	base := path.Base(file)
	return base == "server.go" || strings.HasSuffix(base, "_routes.go") || strings.HasPrefix(base, "operate")
}

func TestImportsRunOneWay(t *testing.T) {
	t.Parallel()
	seen := 0
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".") && file != ".") {
			return fs.SkipDir
		}
		file = filepath.ToSlash(file)
		top, _, nested := strings.Cut(file, "/")
		if !strings.HasSuffix(file, ".go") || !nested {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		seen++
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			check(t, file, top, imported)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Fatalf("only %d files were looked at", seen)
	}
}

func check(t *testing.T, file, top, imported string) {
	t.Helper()
	if ours, ok := strings.CutPrefix(imported, "usher/"); ok {
		to, _, _ := strings.Cut(ours, "/")
		may, known := allowed[top]
		if !known {
			t.Errorf("%s: the folder %s has no rule here", file, top)
		}
		rehearsal := to == "bench" && top == "cmd" && strings.HasSuffix(file, "_test.go") // on a whole site
		if to != top && !rehearsal && !slices.Contains(may, to) {
			t.Errorf("%s imports %s: %s may import %v", file, imported, top, may)
		}
	}
	web := strings.HasPrefix(imported, "github.com/gin-gonic/gin") || strings.HasPrefix(imported, "github.com/danielgtaylor/huma/v2/adapters")
	if web && (top == "queue" || top == "booking") && !routes(file) && !strings.HasSuffix(file, "_test.go") {
		t.Errorf("%s imports %s: the domain knows no web framework", file, imported)
	}
}
