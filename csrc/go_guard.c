#include "go_guard.h"
#include "identity.h"

#include <string.h>
#include <unistd.h>

/*
 * The wrapper of each exported Go function calls runtime/cgo before it enters
 * Go, and that calls a context function, if one is set (runtime.SetCgoTraceback).
 * The child sets its own, by what runtime/cgo has for that. A Go version that
 * has neither leaves the child without this guard.
 */
struct traceback_functions {
	void (*traceback)(void *arg);
	void (*context)(void *arg);
	void (*symbolizer)(void *arg);
};

void x_cgo_set_context_function(void (*context)(void *arg)) __attribute__((weak));             /* to Go 1.25 */
void x_cgo_set_traceback_functions(struct traceback_functions *functions) __attribute__((weak)); /* from Go 1.26 on */

static struct {
	uint32_t *told;
	uint64_t process; /* whose guard it is: a child of the child's has a copy */
} guard;

static const char message[] = "shm: a forked child called Go, but has no Go runtime: it can run C only\n";

static void called_go(void *context)
{
	(void)context;
	if (guard.told != NULL && guard.process == shm_process_token())
		__atomic_store_n(guard.told, 1, __ATOMIC_RELEASE);
	else if (write(STDERR_FILENO, message, strlen(message)) == -1)
		_exit(SHM_CALLED_GO); /* nobody can be told */
	_exit(SHM_CALLED_GO);
}

void shm_refuse_go(uint32_t *told)
{
	struct traceback_functions functions = { .context = called_go };

	guard.told = told;
	guard.process = shm_process_token();
	if (x_cgo_set_traceback_functions != NULL)
		x_cgo_set_traceback_functions(&functions);
	else if (x_cgo_set_context_function != NULL)
		x_cgo_set_context_function(called_go);
}
