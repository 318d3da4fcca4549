// Package web is the front end: the shop, the seat map, the ticket page, the
// operators' console, and the waiting page, embedded in the binary.
//
// It guarantees that every page is served with a strict Content-Security-Policy
// (no inline script or style, nothing from another host), that hashed assets
// are immutable and pages are never stored, and that a visitor without
// JavaScript can wait, see the position and enter.
//
// It is authoritative for nothing: pages ask the API, and RenderWaiting shows
// what the gateway hands it.
//
// The sources are built by npm into dist, which is embedded and not committed.
// Without that build the package still compiles: Handler then answers every
// page with 503 and the command to run, and the waiting page is rendered
// without styles and script, which it does not need to work.
//
// Folders: src/lib is shared by all pages; src/waiting, src/shop, src/seats and
// src/console are one page each; e2e is the journey in a real browser.
package web
