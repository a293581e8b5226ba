/* SPDX-License-Identifier: Apache-2.0 */
#include "agentctl/conf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

static void trim(char *s)
{
    size_t n = strlen(s);

    while (n && strchr(" \t", s[n - 1]))
        s[--n] = 0;
}

/* The value behind the key, NULL if the line is no such. */
static char *value_of(char *line, const char *key)
{
    size_t n = strlen(key);
    char *p = line + n;

    if (strncmp(line, key, n) != 0 || *(p += strspn(p, " \t")) != '=')
        return NULL;
    p++;
    p += strspn(p, " \t");
    trim(p);
    return p;
}

bool conf_get(FILE *f, const char *key, char *value, size_t size, unsigned *ret_line)
{
    char line[LIMIT_CONFIG_LINE], *p, *v;
    bool agent = false, more = false, found = false;

    for (unsigned number = 1; fgets(line, sizeof(line), f); number++) {
        size_t n = strcspn(line, "\r\n");
        bool here = !more; /* else it goes on from the line before */
        more = n && line[n - 1] == '\\';
        line[n] = 0;
        p = line + strspn(line, " \t");
        if (here && *p == '[')
            agent = str_starts(p, "[Agent]");
        if (!here || !agent || !(v = value_of(p, key)))
            continue;
        str_copy(value, size, v);
        *ret_line = number;
        found = true;
    }
    return found;
}

bool conf_is_drop_in(const char *name)
{
    return *name != '.' && str_ends(name, ".conf");
}

static int get_from(const char *path, const char *key, char *value, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    unsigned line;
    bool found;

    if (!f) {
        int r = -errno;
        fd_close(fd);
        return r;
    }
    found = conf_get(f, key, value, size, &line);
    fclose(f);
    return found;
}

static int is_read(const struct dirent *e)
{
    return conf_is_drop_in(e->d_name);
}

/* By name, byte for byte, as agentd sorts them. */
static int compare(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int conf_find(const char *config, const char *key, char *value, size_t size, char *path)
{
    struct dirent **list = NULL;
    int n, r, found;

    str_copy(path, size, config);
    if ((found = get_from(path, key, value, size)) < 0)
        return found;
    snprintf(path, size, "%s.d", config);
    if ((n = scandir(path, &list, is_read, compare)) < 0)
        return errno == ENOENT ? found : -errno;
    for (int i = 0; i < n; i++) {
        if (found >= 0) {
            snprintf(path, size, "%s.d/%s", config, list[i]->d_name);
            r = get_from(path, key, value, size);
            found = r != 0 ? r : found;
        }
        free(list[i]);
    }
    free(list);
    return found;
}
