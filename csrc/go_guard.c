#include "go_guard.h"
#include "identity.h"

#include <string.h>
#include <unistd.h>

/*
 * The C wrapper of an exported Go function calls runtime/cgo before it enters Go.
 * runtime/cgo then calls a context function, if one is set
 * (runtime.SetCgoTraceback). The child sets a context function of its own, by one
 * of the two functions of runtime/cgo below. If a Go version has neither of them,
 * the child has no guard.
 */
struct traceback_functions {
	void (*traceback)(void *arg);
	void (*context)(void *arg);
	void (*symbolizer)(void *arg);
};

void x_cgo_set_context_function(void (*context)(void *arg)) __attribute__((weak));               /* to Go 1.25 */
void x_cgo_set_traceback_functions(struct traceback_functions *functions) __attribute__((weak)); /* from Go 1.26 */

static struct {
	uint32_t *flag;   /* the word to set, or NULL */
	uint64_t process; /* the token of the process that set the guard: its children have a copy */
} guard;

static const char message[] = "shm: a forked child called Go, but has no Go runtime: it can run C only\n";

static void called_go(void *context)
{
	(void)context;
	if (guard.flag != NULL && guard.process == shm_process_token())
		__atomic_store_n(guard.flag, 1, __ATOMIC_RELEASE);
	else if (write(STDERR_FILENO, message, strlen(message)) == -1)
		_exit(SHM_CALLED_GO); /* there is no way to report it */
	_exit(SHM_CALLED_GO);
}

void shm_refuse_go(uint32_t *flag)
{
	struct traceback_functions functions = { .context = called_go };

	guard.flag = flag;
	guard.process = shm_process_token();
	if (x_cgo_set_traceback_functions != NULL)
		x_cgo_set_traceback_functions(&functions);
	else if (x_cgo_set_context_function != NULL)
		x_cgo_set_context_function(called_go);
}
