// Package devtest gives each test servers of its own: a real redis-server, and
// a migrated database on a real postgres that the test process shares.
//
// A test process that has it lets calls to them take a minute, whatever production allows
// (package deadline).
//
// Everything lives in temporary folders that are removed when the test (redis)
// or the test process (postgres) has ended, however it ended. Nothing is synced
// to the disk. A server that cannot be had fails the test; none is skipped.
package devtest
