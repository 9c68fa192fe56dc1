package main

// plan is how much a run measures.
type plan struct {
	name   string
	sizes  []size
	rounds int
	peers  bool
}

// size is a length of memory, and how often it is measured.
type size struct {
	bytes  int
	lives  int // in one process
	rounds int // processes; 0 means the plan's
}

func planOf(quick, full bool) plan {
	sizes := []size{{4 << 10, 100, 0}, {64 << 10, 100, 0}, {1 << 20, 20, 0}, {16 << 20, 5, 0},
		{1 << 30, 1, 3}}
	switch {
	case quick:
		return plan{"quick", []size{{4 << 10, 50, 0}, {1 << 20, 10, 0}, {64 << 20, 1, 0}}, 6, false}
	case full:
		sizes[4].rounds = 0
		return plan{"full", sizes, 12, true}
	}
	return plan{"default", sizes, 6, true}
}
