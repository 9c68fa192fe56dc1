package parity

import "strings"

// diff returns "" if both lists of lines are the same. Otherwise diff returns
// all lines in order. Lines that only a has are behind "-", and lines that only
// b has are behind "+". The first of these has a mark at its end.
func diff(a, b []string) string {
	common := commonLines(a, b)
	var out strings.Builder
	differs := false
	write := func(sign, line string) {
		out.WriteString(sign + " " + line)
		if sign != " " && !differs {
			differs = true
			out.WriteString("    <-- the first difference")
		}
		out.WriteByte('\n')
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			write(" ", a[i])
			i++
			j++
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			write("-", a[i])
			i++
		default:
			write("+", b[j])
			j++
		}
	}
	if !differs {
		return ""
	}
	return out.String()
}

// commonLines returns, for each i and j, how many lines a[i:] and b[j:] have in
// common, in order.
func commonLines(a, b []string) [][]int {
	n := make([][]int, len(a)+1)
	for i := range n {
		n[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				n[i][j] = n[i+1][j+1] + 1
			} else {
				n[i][j] = max(n[i+1][j], n[i][j+1])
			}
		}
	}
	return n
}
