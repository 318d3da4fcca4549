package web

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed all:dist
var embedded embed.FS

// policy is the Content-Security-Policy of every page: our own files, QR codes
// as blobs, and our own API and WebSockets.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"

const notBuilt = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Pages not built</title>
<h1>The pages are not built yet</h1><p>Run <code>make build</code> (or <code>npm ci &amp;&amp; npm run build</code> in <code>web</code>) and start again.</p></html>`

const notFound = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Not found</title>
<h1>There is nothing here</h1><p><a href="/">Back to the box office</a></p></html>`

// underRooms is where the gateway serves the assets beside the waiting page: a
// protected host gives Usher only that path.
const underRooms = "/rooms/_/"

// file is one embedded file, held plain and compressed so that no request
// compresses anything.
type file struct {
	kind    string
	plain   []byte
	gzipped []byte // nil where it would not be smaller
}

// bundle is the embedded build.
type bundle struct {
	files map[string]file // by path under dist
	// The waiting page's assets, absent without a build.
	waitingScript, icon string
	waitingStyles       []string
}

var built = sync.OnceValue(func() bundle {
	dist, err := fs.Sub(embedded, "dist")
	if err != nil {
		panic(err) // the folder is named in this file
	}
	b, err := open(dist)
	if err != nil {
		panic(fmt.Errorf("embedded web build: %w", err))
	}
	return b
})

func open(dist fs.FS) (bundle, error) {
	b := bundle{files: map[string]file{}}
	err := fs.WalkDir(dist, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		plain, err := fs.ReadFile(dist, name)
		if err != nil {
			return err
		}
		kind := mime.TypeByExtension(path.Ext(name))
		if kind == "" {
			kind = "application/octet-stream"
		}
		gzipped, err := compress(plain)
		if err != nil {
			return err
		}
		b.files[name] = file{kind: kind, plain: plain, gzipped: gzipped}
		return nil
	})
	if err != nil {
		return bundle{}, err
	}
	manifest, ok := b.files["manifest.json"]
	if !ok {
		return b, nil
	}
	var entries map[string]struct {
		File string   `json:"file"`
		CSS  []string `json:"css"`
	}
	if err := json.Unmarshal(manifest.plain, &entries); err != nil {
		return bundle{}, fmt.Errorf("read manifest: %w", err)
	}
	waiting, ok := entries["src/waiting/main.ts"]
	if !ok {
		return bundle{}, errors.New("manifest has no waiting page")
	}
	b.waitingScript = underRooms + waiting.File
	b.icon = underRooms + entries["src/style/icon.svg"].File
	for _, css := range waiting.CSS {
		b.waitingStyles = append(b.waitingStyles, underRooms+css)
	}
	return b, nil
}

func compress(plain []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if out.Len() >= len(plain) {
		return nil, nil
	}
	return out.Bytes(), nil
}

// Handler serves the assets and the pages of the shop and the console. Every
// other path is a 404 page.
func Handler() http.Handler { return built() }

func (b bundle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		b.page(w, r, http.StatusMethodNotAllowed, notFound)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if asset, ok := b.files[name]; ok && strings.HasPrefix(name, "assets/") {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		asset.serve(w, r, http.StatusOK)
		return
	}
	shell := shellOf(r.URL.Path)
	if shell == "" {
		b.page(w, r, http.StatusNotFound, notFound)
		return
	}
	page, ok := b.files[shell]
	if !ok {
		b.page(w, r, http.StatusServiceUnavailable, notBuilt)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	page.serve(w, r, http.StatusOK)
}

// shellOf names the HTML file that draws the page at a path, or "".
func shellOf(urlPath string) string {
	parts := strings.Split(strings.Trim(urlPath, "/"), "/")
	switch {
	case urlPath == "/",
		parts[0] == "events" && (len(parts) == 2 || len(parts) == 4 && parts[2] == "performances"),
		parts[0] == "orders" && len(parts) == 3:
		return "index.html"
	case parts[0] == "console":
		return "console.html"
	}
	return ""
}

func (b bundle) page(w http.ResponseWriter, r *http.Request, status int, html string) {
	w.Header().Set("Cache-Control", "no-store")
	file{kind: "text/html; charset=utf-8", plain: []byte(html)}.serve(w, r, status)
}

func (f file) serve(w http.ResponseWriter, r *http.Request, status int) {
	body := f.plain
	if f.gzipped != nil {
		w.Header().Set("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			body = f.gzipped
		}
	}
	w.Header().Set("Content-Type", f.kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the visitor has gone: nobody is left to tell
	}
}

func secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}
