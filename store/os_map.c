#include "os_map.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { MAPS_MAX = 16 };

struct os_map {
	atomic_bool taken;
	size_t size;
	atomic_uintptr_t start;		/* 0: there is none (any more) */
	atomic_bool lost;		/* it is not the file's any more */
};

/* A signal handler can find no others. */
static struct os_map maps[MAPS_MAX];
static struct sigaction before;

/* Puts memory of nobody's in the place of the bytes, so that whoever touched them can go on. */
static bool throw_away(uintptr_t at)
{
	for (struct os_map *map = maps; map < maps + MAPS_MAX; map++) {
		const uintptr_t start = atomic_load(&map->start);

		if (start == 0 || at < start || at - start >= map->size)
			continue;
		atomic_store(&map->lost, true);
		return mmap((void *)start, map->size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
	}
	return false;
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
	const int saved = errno;

	if (!throw_away((uintptr_t)info->si_addr)) {
		if (before.sa_flags & SA_SIGINFO)
			before.sa_sigaction(number, info, context);
		else	/* it comes again at once, as it would have come without us */
			sigaction(SIGBUS, &before, NULL);
	}
	errno = saved;
}

/* Whoever has put a handler of his own in the place of ours since the last map gets his turn, too.
 */
static void catch_bus_errors(void)
{
	static pthread_mutex_t catching = PTHREAD_MUTEX_INITIALIZER;
	const struct sigaction ours = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO };
	struct sigaction now;

	pthread_mutex_lock(&catching);
	sigaction(SIGBUS, NULL, &now);
	if (!(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != on_bus_error) {
		before = now;
		sigaction(SIGBUS, &ours, NULL);
	}
	pthread_mutex_unlock(&catching);
}

static struct os_map *choose(void)
{
	for (struct os_map *map = maps; map < maps + MAPS_MAX; map++)
		if (!atomic_exchange(&map->taken, true))
			return map;
	return NULL;
}

int os_map_new(int fd, size_t size, struct os_map **out)
{
	struct os_map *map = choose();
	void *bytes;

	if (!map)
		return -ENFILE;
	catch_bus_errors();
	bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED) {
		const int rc = -errno;

		atomic_store(&map->taken, false);
		return rc;
	}
	map->size = size;
	atomic_store(&map->lost, false);
	atomic_store(&map->start, (uintptr_t)bytes);
	*out = map;
	return 0;
}

void os_map_done(struct os_map *map)
{
	if (!map)
		return;
	munmap((void *)atomic_exchange(&map->start, 0), map->size);
	atomic_store(&map->taken, false);
}

int os_map_put(struct os_map *map, const void *bytes, size_t size, size_t at)
{
	assert(at <= map->size && size <= map->size - at);
	memcpy((uint8_t *)atomic_load(&map->start) + at, bytes, size);
	return atomic_load(&map->lost) ? -EIO : 0;
}
