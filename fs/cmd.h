/* cmd.h - the commands of `cubby`: each takes its own argv, argv[0] being its name, and returns the
 * exit status: 0, 1 for failure, 2 for wrong usage. They have said why.
 */
#ifndef CUBBY_FS_CMD_H
#define CUBBY_FS_CMD_H

enum { EXIT_USAGE = 2 };

int cmd_mount(int argc, char **argv);

/* The same as mount(8) calls its helpers: `mount.cubby STORE MOUNTPOINT [-sfnv] [-o ...]`. */
int cmd_mount_helper(int argc, char **argv);

int cmd_umount(int argc, char **argv);

#endif
