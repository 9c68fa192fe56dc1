// Package libraries tests what programs with live forks can rely on when they
// use well-known libraries. It is a module of its own, for what it requires.
package libraries
