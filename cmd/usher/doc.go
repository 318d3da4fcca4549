// Usher is a virtual waiting room and a box office; each command is a process
// that scales by itself.
//
// main makes a context that ends with a signal and calls run, which parses,
// validates, and hands over to a command. A command reads from top to bottom:
// connect, build, listen, run. What it runs is a list of stages: all start
// together, and when a signal comes or one part fails, they end one after the
// other, so that nothing loses what it stands on while it is still answering.
//
// A command exits 0 after a signal, 1 when something failed, 2 when it was
// called wrongly. Flags win over the environment, the environment over the
// file that --config names.
package main
