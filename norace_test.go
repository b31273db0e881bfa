//go:build !race

package ghcr_test

const raced = false
