#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "control.h"
#include "descriptor.h"
#include "futex.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static struct shm_set_up *set_up_page(struct shm_control *control)
{
	return (struct shm_set_up *)((char *)control - page_size());
}

char *shm_control_slot(struct shm_control *control, size_t slot)
{
	return (char *)control - 2 * page_size() - slot;
}

/* The length of all of the memory. */
static size_t size_with(size_t slot)
{
	return slot == 0 ? 4 * page_size() : 5 * page_size() + slot;
}

static char *first_page(struct shm_control *control, size_t slot)
{
	return (char *)control + 2 * page_size() - size_with(slot);
}

static int open_up(void *addr, size_t length)
{
	return length != 0 && mprotect(addr, length, PROT_READ | PROT_WRITE) == -1 ? errno : 0;
}

/* MAP_NORESERVE: a slot is large, and most of it is never used. */
static int map(int flags, int fd, size_t slot, struct shm_control **control)
{
	size_t page = page_size(), size = size_with(slot);
	char *all = mmap(NULL, size, PROT_NONE, MAP_SHARED | MAP_NORESERVE | flags, fd, 0);
	int err;

	if (all == MAP_FAILED)
		return errno;
	*control = (struct shm_control *)(void *)(all + size - 2 * page);
	err = open_up(all + size - 3 * page, 2 * page);
	if (err == 0)
		err = open_up(shm_control_slot(*control, slot), slot);
	if (err != 0)
		munmap(all, size);
	return err;
}

/*
 * The set-up report is an object of its own. Otherwise the child could map it again by way
 * of its neighbours: mremap(2) with a length of 0 maps what follows a page in its object.
 */
static int map_report(struct shm_control *control)
{
	void *report = mmap(set_up_page(control), page_size(), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	return report == MAP_FAILED ? errno : 0;
}

int shm_control_make(size_t slot, struct shm_control **control)
{
	int err = map(MAP_ANONYMOUS, -1, slot, control);

	if (err != 0)
		return err;
	err = map_report(*control);
	if (err != 0) {
		shm_control_free(*control, slot);
		*control = NULL;
	}
	return err;
}

int shm_control_map(int fd, size_t slot, struct shm_control **control)
{
	return map(0, fd, slot, control);
}

/* Sealed, the object cannot be shrunk: an access of the parent would be SIGBUS then. */
static int size_object(int fd, size_t size)
{
	if (ftruncate(fd, (off_t)size) == -1)
		return errno;
	return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1 ? errno : 0;
}

int shm_control_make_object(int *fd, size_t slot, struct shm_control **control)
{
	int err;

	*fd = shm_lift(memfd_create("shm control", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	if (*fd == -1)
		return errno;
	err = size_object(*fd, size_with(slot));
	if (err == 0)
		err = shm_control_map(*fd, slot, control);
	if (err != 0) {
		close(*fd);
		*fd = -1;
	}
	return err;
}

void shm_control_hide(struct shm_control *control, size_t slot)
{
	madvise(first_page(control, slot), size_with(slot), MADV_DONTFORK);
}

void shm_control_free(struct shm_control *control, size_t slot)
{
	if (control != NULL)
		munmap(first_page(control, slot), size_with(slot));
}

void shm_set_up_report(struct shm_control *control, const struct shm_set_up *result)
{
	struct shm_set_up *r = set_up_page(control);

	r->call = result->call;
	r->which = result->which;
	r->err = result->err;
	r->sandboxed = result->sandboxed;
	__atomic_store_n(&r->state, result->call == SHM_CALL_NONE ? SHM_SET_UP_DONE : SHM_SET_UP_FAILED, __ATOMIC_RELEASE);
	shm_futex_wake(&r->state);
	if (munmap(r, page_size()) == -1)
		_exit(127); /* the child's function could forge the report */
}

void shm_set_up_await(struct shm_control *control, int64_t timeout, struct shm_set_up *report)
{
	struct shm_set_up *r = set_up_page(control);

	if (__atomic_load_n(&r->state, __ATOMIC_ACQUIRE) == SHM_SET_UP_PENDING)
		shm_futex_wait(&r->state, SHM_SET_UP_PENDING, timeout);
	report->state = __atomic_load_n(&r->state, __ATOMIC_ACQUIRE);
	report->call = r->call;
	report->which = r->which;
	report->sandboxed = r->sandboxed;
	report->err = r->err;
}
