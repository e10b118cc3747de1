#include "path.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>

int path_resolve(const char *given, char out[PATH_MAX])
{
	char copy[2][PATH_MAX], above[PATH_MAX];
	int size;

	if (realpath(given, out))
		return 0;
	if (errno != ENOENT && errno != ENOTCONN)
		return -errno;
	if (snprintf(copy[0], PATH_MAX, "%s", given) >= PATH_MAX)
		return -ENAMETOOLONG;
	snprintf(copy[1], PATH_MAX, "%s", given);
	if (!*given || !realpath(dirname(copy[0]), above))
		return -errno;
	size = snprintf(out, PATH_MAX, "%s/%s", above[1] ? above : "", basename(copy[1]));
	return size >= PATH_MAX ? -ENAMETOOLONG : 0;
}
