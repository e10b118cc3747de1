#include "sim/tell.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/bytemap.h"

enum {
	PATIENCE = 300,		/* seconds, which no machine needs between two signs of life */
	LESS_PATIENCE = 20,	/* with one that is being shortened */
};

static unsigned patience;

struct telling {
	const struct tale *tale;
	char *wrong;		/* shared */
};

void tell_alive(void)
{
	alarm(patience);
}

uint64_t tell_given(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

void *tell_shared(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		abort();
	return memory;
}

/* cmocka has handlers that would go on with the next test, here too. */
static void die_of_signals(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS };

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_DFL);
}

static bool fails(void *arg, const struct story *story)
{
	struct telling *t = arg;
	pid_t child;
	int status;

	t->wrong[0] = '\0';
	fflush(NULL);
	child = fork();
	if (child == 0) {
		die_of_signals();
		tell_alive();
		_exit(t->tale->tell(t->tale, story, t->wrong) ? 0 : 1);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		abort();
	if (WIFSIGNALED(status))
		snprintf(t->wrong, PLAY_WRONG_SIZE, "killed by signal %d", WTERMSIG(status));
	else if (status && !t->wrong[0])
		snprintf(t->wrong, PLAY_WRONG_SIZE, "ended with status %d", WEXITSTATUS(status));
	return status != 0;
}

bool tell(const struct tale *tale, size_t steps)
{
	struct story story = story_draw(tale->mix, tale->seed, steps);
	struct telling t = { tale, tell_shared(PLAY_WRONG_SIZE) };
	bool right;

	patience = PATIENCE;
	right = !fails(&t, &story);
	if (!right) {
		printf("%s, SEED=%llu: %s\n", tale->mix->name, (unsigned long long)tale->seed,
		       t.wrong);
		patience = LESS_PATIENCE;
		story_shrink(&story, fails, &t);
		fails(&t, &story);
		printf("the same in %zu steps: %s\n", story.count, t.wrong);
		story_print(&story, stdout);
	}
	munmap(t.wrong, PLAY_WRONG_SIZE);
	story_done(&story);
	return right;
}
