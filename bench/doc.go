// Command bench measures Usher against plain baselines on this machine, in one interleaved run, and prints ratios.
//
// It guarantees that both sides of a ratio met the same load from the same generator in turns, so that a machine that
// drifts takes both along, and that Usher's side is the real thing: built processes, a real Redis and Postgres that sync
// to disk, limits in force. Absolute figures are printed for orientation; only ratios are claims. docs/benchmarks.md
// says how to read them.
//
// Any failure, an answer other than the expected one included, ends the run with an error: a benchmark of refusals is
// no benchmark. Children end with this process.
package main
