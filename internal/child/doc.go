// Package child runs the very program that imports it again, as a process aside that is spoken to in lines: rehearsals
// and benchmarks need clients that have memory, a collector and a priority of their own.
//
// A child reads its standard input and ends when that ends: with Stop, or with its parent, whatever that dies of. Its
// standard error is its parent's. It is killed when the context that it was started with ends.
package child
