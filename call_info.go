package shm

import (
	"context"
	"time"
)

// CallInfo says how a pool served a call: see [WithCallInfo].
type CallInfo struct {
	// Pid is the process id of the child that had the call last. Pid is 0 if no child
	// has had it.
	Pid int

	Waited time.Duration // how long the call waited for a child
	Ran    time.Duration // how long the child had the call
}

// WithCallInfo returns a copy of ctx for one call of a [Pool]. When the call
// returns, *info says how it was served, whether the call succeeded or not.
func WithCallInfo(ctx context.Context, info *CallInfo) context.Context {
	return context.WithValue(ctx, callInfoKey{}, info)
}

type callInfoKey struct{}

// callInfo returns where to write how a call was served, or nil.
func callInfo(ctx context.Context) *CallInfo {
	info, _ := ctx.Value(callInfoKey{}).(*CallInfo)
	return info
}

// stopwatch measures a call. Without an info it does nothing.
type stopwatch struct {
	info  *CallInfo
	began time.Time
}

func startWatch(ctx context.Context) stopwatch {
	info := callInfo(ctx)
	if info == nil {
		return stopwatch{}
	}
	*info = CallInfo{}
	return stopwatch{info, time.Now()}
}

// acquired is called when the call has a child, or fails to get one.
func (s stopwatch) acquired() {
	if s.info != nil {
		s.info.Waited = time.Since(s.began)
	}
}

// ended is called at the end of the call.
func (s stopwatch) ended() {
	if s.info != nil {
		s.info.Ran = time.Since(s.began) - s.info.Waited
	}
}
