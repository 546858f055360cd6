/* The functions of the test graph of asyncio pipelines, as nodes in WebAssembly: what `nodes.rs` measures. */

#include "runner_plugin.h"

static const char *given(struct runner_task *task, char **copy)
{
    const char *text = runner_item_text(task, NULL);
    size_t length = text == NULL ? 0 : strlen(text);
    *copy = malloc(length + 1);
    if (text == NULL || *copy == NULL) {
        free(*copy);
        return "no text";
    }
    memcpy(*copy, text, length + 1);
    return NULL;
}

static const char *reversed(struct runner_task *task)
{
    char *text;
    size_t at, length;
    const char *failure = given(task, &text);
    if (failure != NULL) {
        return failure;
    }
    length = strlen(text);
    for (at = 0; at < length / 2; at++) {
        char other = text[length - 1 - at];
        text[length - 1 - at] = text[at];
        text[at] = other;
    }
    runner_make_text(task, text);
    free(text);
    return NULL;
}

static void turn(char *text, char from, char to)
{
    for (; *text != '\0'; text++) {
        if (*text >= from && *text <= to) {
            *text = (char)(*text ^ 0x20);
        }
    }
}

static const char *upper(struct runner_task *task)
{
    char *text;
    const char *failure = given(task, &text);
    if (failure != NULL) {
        return failure;
    }
    turn(text, 'a', 'z');
    runner_make_text(task, text);
    free(text);
    return NULL;
}

/* Of both texts of a pair: those of the graph have nothing that JSON escapes. */
static const char *lower(struct runner_task *task)
{
    char *pair;
    const char *failure = given(task, &pair);
    if (failure != NULL) {
        return failure;
    }
    turn(pair, 'A', 'Z');
    runner_make_json(task, pair);
    free(pair);
    return NULL;
}

static const struct runner_definition plugins[] = {
    {"n1", "1.0.0", "Reverses.", "{}", NULL, NULL},
    {"n2", "1.0.0", "Makes upper case.", "{}", NULL, NULL},
    {"n3", "1.0.0", "Makes lower case of both.", "{}", NULL, NULL}};
static const struct runner_node nodes[] = {{"n1", NULL, NULL, reversed, NULL, NULL},
                                           {"n2", NULL, NULL, upper, NULL, NULL},
                                           {"n3", NULL, NULL, lower, NULL, NULL}};
RUNNER_PLUGINS_AND_NODES(plugins, nodes);
