/* main.c - one program, several commands; also found under the name that mount(8) looks for. */
#include <stdio.h>
#include <string.h>

#include "cmd.h"

static const char help[] =
	"usage: cubby mount [-fds] [-o OPTIONS] STORE MOUNTPOINT\n"
	"       cubby STORE MOUNTPOINT [-fds] [-o OPTIONS]\n"
	"       cubby umount MOUNTPOINT\n"
	"\n"
	"Mounts the store in the folder STORE, which is made if it does not exist or is\n"
	"empty, as the directory MOUNTPOINT. Tables are directories, keys are files.\n"
	"\n"
	"  -f             stay in the foreground\n"
	"  -d             the same, and show every request\n"
	"  -s             serve one request at a time\n"
	"  -o OPTIONS     a comma-separated list:\n"
	"     sync=close      closing what was written, and changes of names, return once they\n"
	"                     are on disk (the default)\n"
	"     sync=always     so does every write(2), and every other change\n"
	"     sync=standard   only fsync waits for the disk\n"
	"     commit=SECONDS  all else is on disk after this (1)\n"
	"     stage=SECONDS   what a program has written to a file that it keeps open is\n"
	"                     published after this; 0 for only when it closes or syncs (30)\n"
	"     log=SIZE        how large the log may grow, such as 256M; at least 4M\n"
	"     cache=SIZE      how much of the tree is kept in memory; at least 1M (64M)\n"
	"     allow_other     other users may come in, as modes and owners allow\n"
	"     acl             access control lists are kept, and decide\n"
	"     security        security.* attributes are kept\n"
	"     ro              nothing may be changed; the store must exist\n"
	"                 and what libfuse and mount(8) know\n"
	"  -h, --help     show this\n"
	"  -V, --version  show the version\n"
	"\n"
	"cubby umount returns when the store is closed. Exit status: 0, 1 if it failed,\n"
	"2 for wrong usage. See cubby(1) and mount.cubby(8).\n";

/* For getopt to begin its complaints with. */
static char mount_name[] = "cubby mount", umount_name[] = "cubby umount";

static const struct command {
	const char *name;
	char *full;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "mount", mount_name, cmd_mount },
	{ "umount", umount_name, cmd_umount },
};

static const struct command *command_of(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (strcmp(name, commands[i].name) == 0)
			return &commands[i];
	return NULL;
}

static int wants(int argc, char **argv, const char *brief, const char *full)
{
	for (int i = 1; i < argc && argv[i][0] == '-'; i++)
		if (strcmp(argv[i], brief) == 0 || strcmp(argv[i], full) == 0)
			return 1;
	return 0;
}

static int show_help(FILE *to, int status)
{
	fputs(help, to);
	return status;
}

static int complain(const char *word)
{
	fprintf(stderr, "cubby: %s: no such command; \"cubby --help\" tells which there are\n",
		word);
	return EXIT_USAGE;
}

static int show_version(void)
{
	puts("cubby " CUBBY_VERSION);
	return 0;
}

static int run(int argc, char **argv)
{
	const struct command *command;

	if (wants(argc, argv, "-h", "--help"))
		return show_help(stdout, 0);
	if (wants(argc, argv, "-V", "--version"))
		return show_version();
	if (argc < 2)
		return show_help(stderr, EXIT_USAGE);
	command = command_of(argv[1]);
	if (!command && argc == 2 && argv[1][0] != '-')
		return complain(argv[1]);
	if (!command)
		return cmd_mount(argc, argv);
	if (wants(argc - 1, argv + 1, "-h", "--help"))
		return show_help(stdout, 0);
	argv[1] = command->full;
	return command->run(argc - 1, argv + 1);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int main(int argc, char **argv)
{
	int status;

	if (argc > 0 && strcmp(base_name(argv[0]), "mount.cubby") == 0)
		return cmd_mount_helper(argc, argv);
	status = run(argc, argv);
	return fflush(stdout) == 0 ? status : 1;
}
