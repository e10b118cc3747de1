#include "cmd.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>

#include "mount.h"
#include "say.h"

static int usage(void)
{
	fprintf(stderr, "usage: cubby mount [-fds] [-o OPTIONS] STORE MOUNTPOINT\n");
	return EXIT_USAGE;
}

static int read_options(struct mount_plan *plan, const char *list)
{
	struct err err;
	const int rc = options_read(&plan->options, list, &err);

	if (rc < 0)
		say("%s", err.text);
	return rc;
}

static int take_operands(struct mount_plan *plan, int argc, char **argv)
{
	if (argc - optind != 2)
		return -EINVAL;
	plan->store = argv[optind];
	plan->point = argv[optind + 1];
	return 0;
}

static int run(struct mount_plan *plan)
{
	const int status = mount_run(plan);

	options_done(&plan->options);
	return status;
}

int cmd_mount(int argc, char **argv)
{
	struct mount_plan plan = { 0 };
	int c;

	options_init(&plan.options);
	while ((c = getopt(argc, argv, "o:fds")) != -1)
		switch (c) {
		case 'o':
			if (read_options(&plan, optarg) < 0)
				return EXIT_USAGE;
			break;
		case 'f':
			plan.foreground = true;
			break;
		case 'd':
			plan.foreground = plan.debug = true;
			break;
		case 's':
			plan.single_threaded = true;
			break;
		default:
			return usage();
		}
	return take_operands(&plan, argc, argv) < 0 ? usage() : run(&plan);
}

/* Here -f means "pretend", -s "bear with what you do not know", -n and -v nothing to us, and -N
 * and -t have a value that mount(8) has used already. */
int cmd_mount_helper(int argc, char **argv)
{
	struct mount_plan plan = { 0 };
	bool pretend = false;
	int c;

	options_init(&plan.options);
	while ((c = getopt(argc, argv, "o:sfnvN:t:")) != -1)
		switch (c) {
		case 'o':
			if (read_options(&plan, optarg) < 0)
				return EXIT_USAGE;
			break;
		case 'f':
			pretend = true;
			break;
		case '?':
			return usage();
		default:
			break;
		}
	if (take_operands(&plan, argc, argv) < 0)
		return usage();
	return pretend ? 0 : run(&plan);
}
