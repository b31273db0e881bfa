//go:build race

package cassette_test

const raceEnabled = true
