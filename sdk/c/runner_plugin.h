/*
 * Write plugins for runner in C (C89 or later) or C++. This header is all of it.
 *
 *     #include "runner_plugin.h"
 *
 *     static const char *greet(struct runner_task *task)
 *     {
 *         const char *name = runner_text(task, "name");
 *         runner_output(task, "greeting.txt", name, strlen(name), "custom/greeting", "text/plain");
 *         return NULL;
 *     }
 *
 *     static const struct runner_definition plugins[] = {
 *         {"greet", "1.0.0", "Greets somebody.", "{\"name\": {\"type\": \"string\"}}", greet, NULL}};
 *     RUNNER_PLUGINS(plugins);
 *
 * Built as a shared object it is a plugin of the kind "native", and built for wasm32-wasi one of the kind
 * "wasm":
 *
 *     cc -shared -fPIC -O2 -o greet.so greet.c
 *     clang --target=wasm32-wasi -O2 -o greet.wasm greet.c
 *
 * Who wants nothing but the interface of shared objects defines RUNNER_PLUGIN_ABI_ONLY.
 */
#ifndef RUNNER_PLUGIN_H
#define RUNNER_PLUGIN_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- The interface between host and shared object, version 1. Its rules are in sdk/rust/src/abi.rs. ---- */

#define RUNNER_PLUGIN_ABI 1u

/* UTF-8 JSON without a terminating zero. What is passed as an argument is lent for the call; what is returned
 * belongs to who returned it, and goes back to its `free`, once. `data` may be NULL if `length` is 0. */
struct runner_bytes {
    const unsigned char *data;
    size_t length;
};

/* Given to `run`, valid until it returns. `notify` and `request` take {"method", "params"}; `request` answers
 * {"result"} or {"error"}. `welcome` is there if `size` says so. */
struct runner_host {
    size_t size;
    void *context;
    void (*notify)(void *context, struct runner_bytes message);
    struct runner_bytes (*request)(void *context, struct runner_bytes message);
    void (*free)(void *context, struct runner_bytes answer);
    struct runner_bytes welcome;
};

/* What a library offers. `describe` and `run` answer {"result"} or {"error": {"code", "message"}}. */
struct runner_plugin {
    size_t size;
    struct runner_bytes (*describe)(void);
    struct runner_bytes (*run)(const struct runner_host *host, struct runner_bytes params);
    void (*cancel)(struct runner_bytes params);
    void (*free)(struct runner_bytes answer);
    /* Answers a request to a node of a pipeline; may be NULL. */
    struct runner_bytes (*node)(const struct runner_host *host, struct runner_bytes request);
};

#if defined(__GNUC__)
#define RUNNER_EXPORT __attribute__((visibility("default")))
#define RUNNER_UNUSED __attribute__((unused))
#define RUNNER_LOAD(at) __atomic_load_n(&(at), __ATOMIC_RELAXED)
#define RUNNER_STORE(at, value) __atomic_store_n(&(at), (value), __ATOMIC_RELAXED)
#else
#define RUNNER_EXPORT
#define RUNNER_UNUSED
#define RUNNER_LOAD(at) (at)
#define RUNNER_STORE(at, value) ((at) = (value))
#endif

#ifndef __wasi__
RUNNER_EXPORT unsigned int runner_plugin_abi(void);
RUNNER_EXPORT const struct runner_plugin *runner_plugin_table(void);
#endif

#ifdef __cplusplus
}
#endif

#ifndef RUNNER_PLUGIN_ABI_ONLY

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- For authors of plugins. ---- */

struct runner_task;

/* A plugin. `parameters` are the properties of a JSON Schema, in the order of the form; each without a "default"
 * is required. `run` returns NULL, or in one line why it failed. `more` is NULL or further members of the
 * description, such as "\"tags\": [\"demo\"], \"example\": {\"name\": \"a\"}". */
struct runner_definition {
    const char *name;
    const char *version;
    const char *description;
    const char *parameters;
    const char *(*run)(struct runner_task *task);
    const char *more;
};

/* A plugin that is a node of pipelines as well: `plugin` is its name in the array of plugins, where `run` may be
 * NULL then. Members of `shape`, which may be NULL, are the JSON Schemas "takes" and "gives" and the list "example".
 * `open` and `close` may be NULL; the parameters are had as in a run, in `open` only where they are the same for
 * every item. `item` works on one item, `pull` makes up to `most` values of nothing, and sets `is_end` after the
 * last: one of them is NULL. They return NULL, or in one line why they failed. Different nodes are called by
 * different threads, each by one. */
struct runner_node {
    const char *plugin;
    const char *shape;
    const char *(*open)(struct runner_task *task);
    const char *(*item)(struct runner_task *task);
    const char *(*pull)(struct runner_task *task, long most, int *is_end);
    void (*close)(struct runner_task *task);
};

/* What functions below return is valid until the run ends; of a node, until it returns. */

struct runner__piece {
    struct runner__piece *next;
};

struct runner_task {
    const struct runner_host *host;
    const char *params;
    const char *end;
    struct runner__piece *pieces;
    long id;
    long run;
    int outputs;
    size_t text_room;
    const char *log;
    const char *kept;
    const char *error;
    int is_out_of_memory;
    /* Of a node: what `open` left for the other functions, the item, and what was made of it. */
    void *state;
    const char *item;
    const char *item_end;
    struct runner__text *made;
    size_t made_from;
    long made_count;
};

/* Text that grows. */
struct runner__text {
    char *data;
    size_t length;
    size_t room;
    int failed;
};

RUNNER_UNUSED static void runner__add(struct runner__text *text, const char *data, size_t length)
{
    if (text->failed) {
        return;
    }
    if (text->room - text->length <= length) {
        size_t room = text->room * 2 + length + 64;
        char *grown = (char *)realloc(text->data, room);
        if (grown == NULL) {
            text->failed = 1;
            return;
        }
        text->data = grown;
        text->room = room;
    }
    if (length > 0) {
        memcpy(text->data + text->length, data, length);
    }
    text->length += length;
    text->data[text->length] = '\0';
}

RUNNER_UNUSED static void runner__put(struct runner__text *text, const char *data)
{
    runner__add(text, data, strlen(data));
}

RUNNER_UNUSED static void runner__number(struct runner__text *text, double number)
{
    char digits[40];
    if (number != number || number > 1e308 || number < -1e308) {
        runner__put(text, "null");
        return;
    }
    sprintf(digits, "%.15g", number);
    runner__put(text, digits);
}

/* The length of a character of UTF-8 at `at`, or 0 if there is none. */
RUNNER_UNUSED static size_t runner__utf8(const unsigned char *at, const unsigned char *end)
{
    size_t length, index;
    unsigned long code;
    if (*at < 0x80) {
        return 1;
    }
    length = *at >= 0xf0 ? 4 : *at >= 0xe0 ? 3 : 2;
    if (*at < 0xc2 || *at > 0xf4 || (size_t)(end - at) < length) {
        return 0;
    }
    code = *at & (0xff >> (length + 1));
    for (index = 1; index < length; index++) {
        if ((at[index] & 0xc0) != 0x80) {
            return 0;
        }
        code = (code << 6) | (at[index] & 0x3f);
    }
    if ((length == 3 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) ||
        (length == 4 && (code < 0x10000 || code > 0x10ffff))) {
        return 0;
    }
    return length;
}

/* Adds a JSON string. What is no UTF-8 becomes the replacement character. */
RUNNER_UNUSED static void runner__string(struct runner__text *text, const char *data, size_t length)
{
    const unsigned char *at = (const unsigned char *)data;
    const unsigned char *end = at + length;
    runner__put(text, "\"");
    while (at < end) {
        const unsigned char *first = at;
        char escape[8];
        size_t size = 1;
        while (at < end && *at >= 0x20 && *at != '"' && *at != '\\' &&
               (size = runner__utf8(at, end)) > 0) {
            at += size;
        }
        runner__add(text, (const char *)first, (size_t)(at - first));
        if (at == end) {
            break;
        }
        if (*at == '"' || *at == '\\') {
            escape[0] = '\\';
            escape[1] = (char)*at;
            escape[2] = '\0';
        } else if (*at < 0x20) {
            sprintf(escape, "\\u%04x", *at);
        } else {
            strcpy(escape, "\\ufffd");
        }
        runner__put(text, escape);
        at++;
    }
    runner__put(text, "\"");
}

/* A part of JSON; `from` is NULL if there is none. It comes from the host, so it is known to be valid. */
struct runner__json {
    const char *from;
    const char *end;
};

RUNNER_UNUSED static const char *runner__space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) {
        at++;
    }
    return at;
}

/* Where the value that begins at `at` ends. */
RUNNER_UNUSED static const char *runner__after(const char *at, const char *end)
{
    long depth = 0;
    int in_string = 0;
    for (; at < end; at++) {
        if (in_string) {
            if (*at == '\\') {
                at++;
            } else if (*at == '"') {
                in_string = 0;
                if (depth == 0) {
                    return at + 1;
                }
            }
        } else if (*at == '"') {
            in_string = 1;
        } else if (*at == '{' || *at == '[') {
            depth++;
        } else if (*at == '}' || *at == ']') {
            if (depth == 0) {
                return at;
            }
            depth--;
            if (depth == 0) {
                return at + 1;
            }
        } else if (depth == 0 && (*at == ',' || *at == ' ' || *at == '\n' || *at == '\r')) {
            return at;
        }
    }
    return end;
}

/* Goes to the next member of an object, or to the first if `at` is its brace. 0: there is none. */
RUNNER_UNUSED static int runner__next(const char **at, const char *end, struct runner__json *key,
                                      struct runner__json *value)
{
    const char *here = *at;
    if (here == NULL || here >= end) {
        return 0;
    }
    here = runner__space(here + 1, end);
    if (here >= end || *here != '"') {
        return 0;
    }
    key->from = here + 1;
    here = runner__after(here, end);
    key->end = here - 1;
    here = runner__space(here, end);
    if (here >= end || *here != ':') {
        return 0;
    }
    value->from = runner__space(here + 1, end);
    value->end = runner__after(value->from, end);
    *at = runner__space(value->end, end);
    return 1;
}

RUNNER_UNUSED static struct runner__json runner__member(struct runner__json object, const char *name)
{
    struct runner__json key, value, none = {NULL, NULL};
    const char *at = object.from;
    size_t length = strlen(name);
    if (at == NULL || at >= object.end || *at != '{') {
        return none;
    }
    while (runner__next(&at, object.end, &key, &value)) {
        if ((size_t)(key.end - key.from) == length && memcmp(key.from, name, length) == 0) {
            return value;
        }
    }
    return none;
}

RUNNER_UNUSED static long runner__hex(const char *at, const char *end)
{
    char digits[5];
    if (end - at < 4) {
        return 0xfffd;
    }
    memcpy(digits, at, 4);
    digits[4] = '\0';
    return strtol(digits, NULL, 16);
}

/* Adds what a JSON string means; of anything else its JSON. */
RUNNER_UNUSED static void runner__meaning(struct runner__text *text, struct runner__json json)
{
    const char *at = json.from;
    if (at == NULL || at >= json.end) {
        return;
    }
    if (*at != '"') {
        runner__add(text, at, (size_t)(json.end - at));
        return;
    }
    for (at++; at < json.end - 1; at++) {
        const char *first = at;
        while (at < json.end - 1 && *at != '\\') {
            at++;
        }
        runner__add(text, first, (size_t)(at - first));
        if (at >= json.end - 1) {
            break;
        }
        at++;
        if (*at == 'u') {
            unsigned char bytes[4];
            size_t length;
            long code = runner__hex(at + 1, json.end);
            at += 4;
            if (code >= 0xd800 && code < 0xdc00 && json.end - at > 6 && at[1] == '\\' && at[2] == 'u') {
                code = 0x10000 + ((code - 0xd800) << 10) + (runner__hex(at + 3, json.end) - 0xdc00);
                at += 6;
            }
            if (code < 0x80) {
                bytes[0] = (unsigned char)code;
                length = 1;
            } else if (code < 0x800) {
                bytes[0] = (unsigned char)(0xc0 | (code >> 6));
                bytes[1] = (unsigned char)(0x80 | (code & 0x3f));
                length = 2;
            } else if (code < 0x10000) {
                bytes[0] = (unsigned char)(0xe0 | (code >> 12));
                bytes[1] = (unsigned char)(0x80 | ((code >> 6) & 0x3f));
                bytes[2] = (unsigned char)(0x80 | (code & 0x3f));
                length = 3;
            } else {
                bytes[0] = (unsigned char)(0xf0 | (code >> 18));
                bytes[1] = (unsigned char)(0x80 | ((code >> 12) & 0x3f));
                bytes[2] = (unsigned char)(0x80 | ((code >> 6) & 0x3f));
                bytes[3] = (unsigned char)(0x80 | (code & 0x3f));
                length = 4;
            }
            runner__add(text, (const char *)bytes, length);
        } else {
            char plain = *at == 'n'   ? '\n'
                         : *at == 't' ? '\t'
                         : *at == 'r' ? '\r'
                         : *at == 'b' ? '\b'
                         : *at == 'f' ? '\f'
                                      : *at;
            runner__add(text, &plain, 1);
        }
    }
}

/* Memory until the run ends. */
RUNNER_UNUSED static char *runner__keep(struct runner_task *task, const char *data, size_t length)
{
    struct runner__piece *piece =
        (struct runner__piece *)malloc(sizeof(struct runner__piece) + length + 1);
    if (piece == NULL) {
        task->is_out_of_memory = 1;
        return NULL;
    }
    piece->next = task->pieces;
    task->pieces = piece;
    if (length > 0) {
        memcpy((char *)(piece + 1), data, length);
    }
    ((char *)(piece + 1))[length] = '\0';
    return (char *)(piece + 1);
}

/* Gives back what was kept after `piece`. */
RUNNER_UNUSED static void runner__forget(struct runner_task *task, struct runner__piece *piece)
{
    while (task->pieces != piece) {
        struct runner__piece *next = task->pieces->next;
        free(task->pieces);
        task->pieces = next;
    }
}

RUNNER_UNUSED static char *runner__kept(struct runner_task *task, struct runner__text *text)
{
    char *kept = text->failed ? NULL : runner__keep(task, text->data, text->length);
    task->is_out_of_memory |= text->failed;
    free(text->data);
    return kept;
}

RUNNER_UNUSED static const char *runner__of(struct runner_task *task, struct runner__json json)
{
    struct runner__text text = {NULL, 0, 0, 0};
    if (json.from == NULL || (json.end - json.from == 4 && memcmp(json.from, "null", 4) == 0)) {
        return NULL;
    }
    runner__add(&text, "", 0);
    runner__meaning(&text, json);
    return runner__kept(task, &text);
}

RUNNER_UNUSED static struct runner__json runner__param(const struct runner_task *task, const char *name)
{
    struct runner__json params;
    params.from = task->params;
    params.end = task->end;
    return runner__member(params, name);
}

/* The text of a parameter; of other values their JSON. NULL if it was left out. */
RUNNER_UNUSED static const char *runner_text(struct runner_task *task, const char *key)
{
    return runner__of(task, runner__member(runner__param(task, "parameters"), key));
}

/* A number, or `otherwise`. */
RUNNER_UNUSED static double runner_number(struct runner_task *task, const char *key, double otherwise)
{
    const char *text = runner_text(task, key);
    return text == NULL ? otherwise : strtod(text, NULL);
}

/* Yes (1) or no (0), or `otherwise`. */
RUNNER_UNUSED static int runner_boolean(struct runner_task *task, const char *key, int otherwise)
{
    const char *text = runner_text(task, key);
    return text == NULL ? otherwise : strcmp(text, "true") == 0;
}

/* The path of a parameter that is a file. NULL if it was left out, or is a list of files. */
RUNNER_UNUSED static const char *runner_input(struct runner_task *task, const char *key)
{
    struct runner__json input = runner__member(runner__param(task, "inputs"), key);
    return runner__of(task, runner__member(input, "path"));
}

/* The run's own directory: empty at first, writable, removed after the run. Of a node: where it may write files, which
 * it hands on as items {"name", "dataType", "path"}. */
RUNNER_UNUSED static const char *runner_directory(struct runner_task *task)
{
    return runner__of(task, runner__param(task, "directory"));
}

/* The step that was submitted; NULL for the plugin itself. */
RUNNER_UNUSED static const char *runner_step_name(struct runner_task *task)
{
    return runner__of(task, runner__param(task, "step"));
}

/* What the previous run of this task kept, as JSON; NULL if nothing. */
RUNNER_UNUSED static const char *runner_data(struct runner_task *task)
{
    struct runner__json data = runner__param(task, "data");
    if (data.from == NULL || *data.from == 'n') {
        return NULL;
    }
    return runner__keep(task, data.from, (size_t)(data.end - data.from));
}

RUNNER_UNUSED static struct runner__json runner__welcome(struct runner_task *task, const char *name)
{
    struct runner__json welcome = {NULL, NULL};
    if (task->host->size < sizeof(struct runner_host) || task->host->welcome.data == NULL) {
        return welcome;
    }
    welcome.from = (const char *)task->host->welcome.data;
    welcome.end = welcome.from + task->host->welcome.length;
    return runner__member(welcome, name);
}

/* The name of the plugin's module, its uuid (another one for each load), and its arguments as a JSON array. */
RUNNER_UNUSED static const char *runner_module_name(struct runner_task *task)
{
    return runner__of(task, runner__welcome(task, "name"));
}

RUNNER_UNUSED static const char *runner_module_uuid(struct runner_task *task)
{
    return runner__of(task, runner__welcome(task, "uuid"));
}

RUNNER_UNUSED static const char *runner_module_args(struct runner_task *task)
{
    return runner__of(task, runner__welcome(task, "args"));
}

/* Begins the params of a message about the task. */
RUNNER_UNUSED static void runner__begin(struct runner_task *task, struct runner__text *text,
                                        const char *method)
{
    char number[32];
    runner__put(text, "{\"method\":\"");
    runner__put(text, method);
    sprintf(number, "\",\"params\":{\"task\":%ld", task->id);
    runner__put(text, number);
}

RUNNER_UNUSED static void runner__field(struct runner__text *text, const char *key, const char *value)
{
    if (value != NULL) {
        runner__put(text, ",\"");
        runner__put(text, key);
        runner__put(text, "\":");
        runner__string(text, value, strlen(value));
    }
}

RUNNER_UNUSED static void runner__notify(struct runner_task *task, struct runner__text *text)
{
    runner__put(text, "}}");
    if (text->failed) {
        task->is_out_of_memory = 1;
    } else {
        struct runner_bytes message;
        message.data = (const unsigned char *)text->data;
        message.length = text->length;
        task->host->notify(task->host->context, message);
    }
    free(text->data);
}

/* Adds an entry to the log of the task. */
RUNNER_UNUSED static void runner_log(struct runner_task *task, const char *entry)
{
    struct runner__text text = {NULL, 0, 0, 0};
    runner__begin(task, &text, "log");
    runner__field(&text, "text", entry);
    runner__notify(task, &text);
}

/* Says how far the run is. */
RUNNER_UNUSED static void runner_progress(struct runner_task *task, double value, double target)
{
    struct runner__text text = {NULL, 0, 0, 0};
    runner__begin(task, &text, "progress");
    runner__put(&text, ",\"value\":");
    runner__number(&text, value);
    runner__put(&text, ",\"target\":");
    runner__number(&text, target);
    runner__notify(task, &text);
}

/* Adds a link that is shown with the task. */
RUNNER_UNUSED static void runner_link(struct runner_task *task, const char *type, const char *href)
{
    struct runner__text text = {NULL, 0, 0, 0};
    runner__begin(task, &text, "link");
    runner__field(&text, "type", type);
    runner__field(&text, "href", href);
    runner__notify(task, &text);
}

/* After this run the task waits until somebody submits `step`; `values` is NULL or a JSON object that prefills
 * its form. */
RUNNER_UNUSED static void runner_step(struct runner_task *task, const char *step, const char *values)
{
    struct runner__text text = {NULL, 0, 0, 0};
    runner__begin(task, &text, "step");
    runner__field(&text, "step", step);
    runner__put(&text, ",\"values\":");
    runner__put(&text, values == NULL ? "{}" : values);
    runner__notify(task, &text);
}

/* Makes `length` bytes an output called `name`; the types may be NULL. 0 is success. */
RUNNER_UNUSED static int runner_output(struct runner_task *task, const char *name, const void *content,
                                       size_t length, const char *data_type, const char *content_type)
{
    struct runner__text text = {NULL, 0, 0, 0};
    const unsigned char *at = (const unsigned char *)content;
    const unsigned char *end = at + length;
    size_t size = 1;
    runner__begin(task, &text, "output");
    runner__field(&text, "name", name);
    runner__field(&text, "dataType", data_type);
    runner__field(&text, "contentType", content_type);
    /* Short text comes with its message; all else is a file. */
    while (length <= task->text_room && length <= 16384 && at < end &&
           (size = runner__utf8(at, end)) > 0) {
        at += size;
    }
    if (at == end) {
        task->text_room -= length;
        runner__put(&text, ",\"text\":");
        runner__string(&text, (const char *)content, length);
    } else {
        char file[40];
        struct runner__text path = {NULL, 0, 0, 0};
        const char *directory = runner_directory(task);
        FILE *output;
        size_t written;
        int closed;
        sprintf(file, "output-%d", ++task->outputs);
        runner__put(&path, directory == NULL ? "." : directory);
        runner__put(&path, "/");
        runner__put(&path, file);
        output = path.failed ? NULL : fopen(path.data, "wb");
        free(path.data);
        if (output == NULL) {
            free(text.data);
            return -1;
        }
        written = fwrite(content, 1, length, output);
        closed = fclose(output);
        if (written != length || closed != 0) {
            free(text.data);
            return -1;
        }
        runner__field(&text, "path", file);
    }
    runner__notify(task, &text);
    return 0;
}

/* Asks the runner; answers the result as JSON, or NULL: runner_error says why. */
RUNNER_UNUSED static const char *runner_request(struct runner_task *task, const char *method,
                                                const char *members)
{
    struct runner__text text = {NULL, 0, 0, 0};
    struct runner_bytes message, answer;
    struct runner__json json, part;
    const char *result = NULL;
    runner__begin(task, &text, method);
    runner__put(&text, ",");
    runner__put(&text, members);
    runner__put(&text, "}}");
    if (text.failed) {
        task->is_out_of_memory = 1;
        free(text.data);
        return NULL;
    }
    message.data = (const unsigned char *)text.data;
    message.length = text.length;
    answer = task->host->request(task->host->context, message);
    free(text.data);
    json.from = (const char *)answer.data;
    json.end = json.from + answer.length;
    part = runner__member(json, "result");
    if (part.from != NULL) {
        result = runner__keep(task, part.from, (size_t)(part.end - part.from));
    } else {
        part = runner__member(runner__member(json, "error"), "message");
        task->error = runner__of(task, part);
    }
    task->host->free(task->host->context, answer);
    return result;
}

/* Why the last request failed. */
RUNNER_UNUSED static const char *runner_error(struct runner_task *task)
{
    return task->error == NULL ? "the runner refused" : task->error;
}

/* Has the runner download `url`; answers the path of the file, or NULL. */
RUNNER_UNUSED static const char *runner_fetch(struct runner_task *task, const char *url)
{
    struct runner__text text = {NULL, 0, 0, 0};
    struct runner__json json;
    runner__put(&text, "\"url\":");
    runner__string(&text, url, strlen(url));
    json.from = text.failed ? NULL : runner_request(task, "fetch", text.data);
    free(text.data);
    json.end = json.from == NULL ? NULL : json.from + strlen(json.from);
    return runner__of(task, runner__member(json, "path"));
}

/* The last entry of the log, when the run has succeeded. */
RUNNER_UNUSED static void runner_done(struct runner_task *task, const char *log)
{
    task->log = runner__keep(task, log, strlen(log));
}

/* Keeps JSON with the task; the next step gets it by runner_data. NULL, or an empty text, keeps nothing any more. */
RUNNER_UNUSED static void runner_keep(struct runner_task *task, const char *json)
{
    const char *kept = json == NULL || *json == '\0' ? "null" : json;
    task->kept = runner__keep(task, kept, strlen(kept));
}

/* Which run was cancelled last. A library does one run at a time, unless its manifest says otherwise. */
static long runner__cancelled_task = -1;
static long runner__cancelled_run = -1;

/* Whether the task was cancelled: a long run looks from time to time, and returns. */
RUNNER_UNUSED static int runner_cancelled(const struct runner_task *task)
{
    return RUNNER_LOAD(runner__cancelled_task) == task->id && RUNNER_LOAD(runner__cancelled_run) == task->run;
}

/* ---- Of nodes. ---- */

/* Values that may be made of one item; bytes of these as JSON; bytes after which outcomes are sent ahead. */
#define RUNNER__MAX_MADE 65536
#define RUNNER__MAX_ITEM 16777216ul
#define RUNNER__PART 1048576ul

/* What `open` leaves for the other functions of a node, and `close` gives back. */
RUNNER_UNUSED static void runner_keep_state(struct runner_task *task, void *state)
{
    task->state = state;
}

RUNNER_UNUSED static void *runner_state(const struct runner_task *task)
{
    return task->state;
}

RUNNER_UNUSED static struct runner__json runner__item(const struct runner_task *task)
{
    struct runner__json item;
    item.from = task->item;
    item.end = task->item_end;
    return item;
}

/* The item as JSON. */
RUNNER_UNUSED static const char *runner_item_json(struct runner_task *task)
{
    return runner__keep(task, task->item, (size_t)(task->item_end - task->item));
}

/* The text of the item, or of its member `key` if that is not NULL; of other values their JSON. NULL if it is null,
 * or there is no such member. */
RUNNER_UNUSED static const char *runner_item_text(struct runner_task *task, const char *key)
{
    return runner__of(task, key == NULL ? runner__item(task) : runner__member(runner__item(task), key));
}

/* The number that is the item, or its member `key` if that is not NULL; or `otherwise`. */
RUNNER_UNUSED static double runner_item_number(struct runner_task *task, const char *key, double otherwise)
{
    const char *text = runner_item_text(task, key);
    return text == NULL ? otherwise : strtod(text, NULL);
}

RUNNER_UNUSED static struct runner__text *runner__made(struct runner_task *task)
{
    task->made_count++;
    if (task->made_count > 1) {
        runner__put(task->made, ",");
    }
    return task->made;
}

/* Makes a value: some JSON, a text, or a number. Beyond the limits of an item, the item fails. */
RUNNER_UNUSED static void runner_make_json(struct runner_task *task, const char *json)
{
    if (task->made_count <= RUNNER__MAX_MADE && task->made->length - task->made_from <= RUNNER__MAX_ITEM) {
        runner__put(runner__made(task), json);
    }
}

RUNNER_UNUSED static void runner_make_text(struct runner_task *task, const char *value)
{
    if (task->made_count <= RUNNER__MAX_MADE && task->made->length - task->made_from <= RUNNER__MAX_ITEM) {
        runner__string(runner__made(task), value, strlen(value));
    }
}

RUNNER_UNUSED static void runner_make_number(struct runner_task *task, double number)
{
    if (task->made_count <= RUNNER__MAX_MADE && task->made->length - task->made_from <= RUNNER__MAX_ITEM) {
        runner__number(runner__made(task), number);
    }
}

/* ---- The sides of the interface that are the same for all plugins. ---- */

RUNNER_UNUSED static long runner__integer(struct runner__json json)
{
    return json.from == NULL ? 0 : strtol(json.from, NULL, 10);
}

RUNNER_UNUSED static void runner__fail(struct runner__text *text, long code, const char *message)
{
    char number[48];
    sprintf(number, "{\"error\":{\"code\":%ld,\"message\":", code);
    runner__put(text, number);
    runner__string(text, message, strlen(message));
    runner__put(text, "}}");
}

RUNNER_UNUSED static void runner__describe(struct runner__text *text,
                                           const struct runner_definition *plugins, size_t count,
                                           const struct runner_node *nodes, size_t node_count)
{
    size_t index, other;
    runner__put(text, "{\"result\":{\"depends\":[],\"plugins\":[");
    for (index = 0; index < count; index++) {
        const struct runner_definition *plugin = &plugins[index];
        const char *parameters = plugin->parameters == NULL ? "{}" : plugin->parameters;
        const char *at = parameters, *end = parameters + strlen(parameters), *comma = "";
        struct runner__json key, value;
        runner__put(text, index == 0 ? "{\"type\":\"processing\"" : ",{\"type\":\"processing\"");
        runner__field(text, "name", plugin->name);
        runner__field(text, "version", plugin->version);
        runner__field(text, "description", plugin->description);
        runner__put(text, ",\"parameters\":{\"type\":\"object\",\"properties\":");
        runner__put(text, parameters);
        runner__put(text, ",\"required\":[");
        while (runner__next(&at, end, &key, &value)) {
            if (runner__member(value, "default").from == NULL) {
                runner__put(text, comma);
                runner__add(text, key.from - 1, (size_t)(key.end - key.from) + 2);
                comma = ",";
            }
        }
        runner__put(text, "]}");
        for (other = 0; other < node_count; other++) {
            const struct runner_node *node = &nodes[other];
            if (strcmp(node->plugin, plugin->name) == 0) {
                runner__put(text, node->pull == NULL ? ",\"node\":{\"source\":false" : ",\"node\":{\"source\":true");
                if (node->shape != NULL) {
                    runner__put(text, ",");
                    runner__put(text, node->shape);
                }
                runner__put(text, "}");
                break;
            }
        }
        if (plugin->more != NULL) {
            runner__put(text, ",");
            runner__put(text, plugin->more);
        }
        runner__put(text, "}");
    }
    runner__put(text, "]}}");
}

/* Whether `identifier` is that of the plugin: name@version, with dashes for dots. */
RUNNER_UNUSED static int runner__is(const struct runner_definition *plugin, const char *identifier)
{
    size_t length = strlen(plugin->name);
    const char *version = plugin->version;
    if (strncmp(plugin->name, identifier, length) != 0 || identifier[length] != '@') {
        return 0;
    }
    for (identifier += length + 1; *version != '\0'; version++, identifier++) {
        if (*identifier != *version && !(*version == '.' && *identifier == '-')) {
            return 0;
        }
    }
    return *identifier == '\0';
}

RUNNER_UNUSED static void runner__run(struct runner__text *text, const struct runner_definition *plugins,
                                      size_t count, const struct runner_host *host,
                                      struct runner_bytes params)
{
    struct runner_task task;
    const char *identifier, *failure = NULL;
    size_t index;
    memset(&task, 0, sizeof task);
    task.host = host;
    task.params = (const char *)params.data;
    task.end = task.params + params.length;
    task.id = runner__integer(runner__param(&task, "task"));
    task.run = runner__integer(runner__param(&task, "run"));
    task.text_room = (size_t)runner__integer(runner__param(&task, "outputText"));
    identifier = runner__of(&task, runner__param(&task, "plugin"));
    for (index = 0; index < count; index++) {
        if (identifier != NULL && runner__is(&plugins[index], identifier)) {
            break;
        }
    }
    if (index == count) {
        runner__fail(text, -32602, "there is no such plugin here");
    } else if (plugins[index].run == NULL) {
        runner__fail(text, -32000, "it is a node of pipelines, and does nothing by itself");
    } else {
        failure = plugins[index].run(&task);
        if (runner_cancelled(&task)) {
            runner__fail(text, -32001, "cancelled");
        } else if (failure != NULL) {
            runner__fail(text, -32000, failure);
        } else if (task.is_out_of_memory) {
            runner__fail(text, -32000, "out of memory");
        } else {
            runner__put(text, "{\"result\":{\"kind\":\"c\"");
            runner__field(text, "log", task.log);
            if (task.kept != NULL) {
                runner__put(text, ",\"data\":");
                runner__put(text, task.kept);
            }
            runner__put(text, "}}");
        }
    }
    runner__forget(&task, NULL);
}

static const char runner__failed[] = "{\"error\":{\"code\":-32000,\"message\":\"out of memory\"}}";

RUNNER_UNUSED static struct runner_bytes runner__give(struct runner__text *text)
{
    struct runner_bytes bytes;
    if (text->failed) {
        free(text->data);
        bytes.data = (const unsigned char *)runner__failed;
        bytes.length = sizeof runner__failed - 1;
    } else {
        bytes.data = (const unsigned char *)text->data;
        bytes.length = text->length;
    }
    return bytes;
}

/* A node that is open. */
struct runner__open {
    struct runner__open *next;
    const struct runner_node *node;
    struct runner_task task;
    struct runner__text parameters;
    struct runner__text directory;
    long number;
};

/* Those that are open, and the lock of this list. */
static struct runner__open *runner__nodes;
static char runner__turn;

RUNNER_UNUSED static void runner__lock(void)
{
#if defined(__GNUC__)
    /* It is held for a few instructions. */
    while (__atomic_test_and_set(&runner__turn, __ATOMIC_ACQUIRE)) {
    }
#else
    (void)runner__turn;
#endif
}

RUNNER_UNUSED static void runner__unlock(void)
{
#if defined(__GNUC__)
    __atomic_clear(&runner__turn, __ATOMIC_RELEASE);
#endif
}

/* The node of this number; out of the list if it is to be closed. */
RUNNER_UNUSED static struct runner__open *runner__node_of(long number, int is_last)
{
    struct runner__open **at, *found;
    runner__lock();
    for (at = &runner__nodes; *at != NULL && (*at)->number != number; at = &(*at)->next) {
    }
    found = *at;
    if (found != NULL && is_last) {
        *at = found->next;
    }
    runner__unlock();
    return found;
}

RUNNER_UNUSED static int runner__equals(struct runner__json json, const char *text)
{
    size_t length = strlen(text);
    return json.from != NULL && (size_t)(json.end - json.from) == length && memcmp(json.from, text, length) == 0;
}

/* Goes to the next element of an array, or to the first if `at` is its bracket. 0: there is none. */
RUNNER_UNUSED static int runner__element(const char **at, const char *end, struct runner__json *value)
{
    const char *here = *at;
    if (here == NULL || here >= end || *here == ']') {
        return 0;
    }
    here = runner__space(here + 1, end);
    if (here >= end || *here == ']') {
        return 0;
    }
    value->from = here;
    value->end = runner__after(here, end);
    *at = runner__space(value->end, end);
    return 1;
}

/* Makes the parameters those of the next call. */
RUNNER_UNUSED static void runner__with(struct runner__open *open, struct runner__json with)
{
    open->parameters.length = 0;
    runner__put(&open->parameters, "{\"parameters\":");
    if (with.from == NULL || *with.from != '{') {
        runner__put(&open->parameters, "{}");
    } else {
        runner__add(&open->parameters, with.from, (size_t)(with.end - with.from));
    }
    if (open->directory.length > 0) {
        runner__put(&open->parameters, ",\"directory\":");
        runner__add(&open->parameters, open->directory.data, open->directory.length);
    }
    runner__put(&open->parameters, "}");
    open->task.params = open->parameters.data;
    open->task.end = open->parameters.failed ? open->task.params : open->task.params + open->parameters.length;
}

RUNNER_UNUSED static void runner__open_node(struct runner__text *text, const struct runner_definition *plugins,
                                            size_t count, const struct runner_node *nodes,
                                            size_t node_count, const struct runner_host *host,
                                            struct runner__json params)
{
    struct runner__open *open = (struct runner__open *)calloc(1, sizeof *open);
    struct runner__json directory;
    const char *identifier, *failure = NULL;
    size_t index, other;
    if (open == NULL) {
        runner__fail(text, -32000, "out of memory");
        return;
    }
    open->task.host = host;
    open->number = runner__integer(runner__member(params, "node"));
    identifier = runner__of(&open->task, runner__member(params, "plugin"));
    for (index = 0; identifier != NULL && index < count; index++) {
        for (other = 0; other < node_count && runner__is(&plugins[index], identifier); other++) {
            if (strcmp(nodes[other].plugin, plugins[index].name) == 0) {
                open->node = &nodes[other];
            }
        }
    }
    directory = runner__member(params, "directory");
    if (directory.from != NULL && *directory.from == '"') {
        runner__add(&open->directory, directory.from, (size_t)(directory.end - directory.from));
    }
    runner__with(open, runner__member(params, "with"));
    if (open->node == NULL) {
        runner__fail(text, -32602, "there is no such node here");
    } else if (open->node->open != NULL && (failure = open->node->open(&open->task)) != NULL) {
        runner__fail(text, -32000, failure);
    } else {
        runner__forget(&open->task, NULL);
        runner__lock();
        open->next = runner__nodes;
        runner__nodes = open;
        runner__unlock();
        runner__put(text, "{\"result\":{}}");
        return;
    }
    runner__forget(&open->task, NULL);
    free(open->parameters.data);
    free(open->directory.data);
    free(open);
}

/* Begins what is made of an item, or of nothing. */
RUNNER_UNUSED static void runner__begin_made(struct runner_task *task, struct runner__text *text)
{
    task->made = text;
    task->made_from = text->length;
    task->made_count = 0;
    task->is_out_of_memory = 0;
}

/* Why what was made cannot be handed on. NULL: it can. */
RUNNER_UNUSED static const char *runner__too_much(const struct runner_task *task)
{
    if (task->is_out_of_memory || task->made->failed) {
        return "out of memory";
    }
    if (task->made_count > RUNNER__MAX_MADE) {
        return "it made more than 65536 items of one";
    }
    if (task->made->length - task->made_from > RUNNER__MAX_ITEM) {
        return "what it made has too many bytes as JSON; an item has at most 16777216";
    }
    return NULL;
}

/* Adds the outcome of one item. */
RUNNER_UNUSED static void runner__outcome(struct runner__text *text, struct runner__open *open)
{
    size_t begin = text->length;
    const char *failure;
    runner__put(text, "[");
    runner__begin_made(&open->task, text);
    failure = open->node->item == NULL ? "the node is a source" : open->node->item(&open->task);
    if (failure == NULL) {
        failure = runner__too_much(&open->task);
    }
    if (failure == NULL) {
        runner__put(text, "]");
    } else if (!text->failed) {
        text->length = begin;
        runner__put(text, "{\"error\":");
        runner__string(text, failure, strlen(failure));
        runner__put(text, "}");
    }
    runner__forget(&open->task, NULL);
}

RUNNER_UNUSED static void runner__items(struct runner__text *text, struct runner__open *open,
                                        struct runner__json params)
{
    struct runner__json items = runner__member(params, "items"), withs = runner__member(params, "with");
    struct runner__json item, with;
    struct runner__text outcomes = {NULL, 0, 0, 0};
    const char *at = items.from, *with_at = withs.from;
    runner__add(&outcomes, "", 0);
    while (runner__element(&at, items.end, &item)) {
        if (with_at != NULL && runner__element(&with_at, withs.end, &with)) {
            runner__with(open, with);
        }
        if (outcomes.length > RUNNER__PART) {
            struct runner__text part = {NULL, 0, 0, 0};
            runner__put(&part, "{\"method\":\"made\",\"params\":{\"made\":[");
            runner__add(&part, outcomes.data, outcomes.length);
            runner__put(&part, "]");
            runner__notify(&open->task, &part);
            outcomes.length = 0;
        }
        if (outcomes.length > 0) {
            runner__put(&outcomes, ",");
        }
        open->task.item = item.from;
        open->task.item_end = item.end;
        runner__outcome(&outcomes, open);
    }
    runner__put(text, "{\"result\":{\"made\":[");
    runner__add(text, outcomes.data, outcomes.length);
    runner__put(text, "]}}");
    text->failed |= outcomes.failed;
    free(outcomes.data);
}

RUNNER_UNUSED static void runner__pull(struct runner__text *text, struct runner__open *open,
                                       struct runner__json params)
{
    long most = runner__integer(runner__member(params, "count"));
    int is_end = 0;
    const char *failure;
    runner__put(text, "{\"result\":{\"values\":[");
    runner__begin_made(&open->task, text);
    failure = open->node->pull == NULL ? "the node is no source" : open->node->pull(&open->task, most, &is_end);
    if (failure == NULL) {
        failure = runner__too_much(&open->task);
    }
    if (failure == NULL) {
        runner__put(text, is_end ? "],\"end\":true}}" : "],\"end\":false}}");
    } else if (!text->failed) {
        text->length = 0;
        runner__fail(text, -32000, failure);
    }
    runner__forget(&open->task, NULL);
}

/* Answers a request of a pipeline. */
RUNNER_UNUSED static void runner__node(struct runner__text *text, const struct runner_definition *plugins,
                                       size_t count, const struct runner_node *nodes, size_t node_count,
                                       const struct runner_host *host, struct runner_bytes request)
{
    struct runner__json json, method, params;
    struct runner__open *open;
    int is_last;
    json.from = (const char *)request.data;
    json.end = json.from + request.length;
    json.from = runner__space(json.from, json.end);
    method = runner__member(json, "method");
    params = runner__member(json, "params");
    if (runner__equals(method, "\"open\"")) {
        runner__open_node(text, plugins, count, nodes, node_count, host, params);
        return;
    }
    is_last = runner__equals(method, "\"close\"");
    open = runner__node_of(runner__integer(runner__member(params, "node")), is_last);
    if (open == NULL) {
        runner__fail(text, -32602, "the node is not open");
        return;
    }
    open->task.host = host;
    if (is_last) {
        if (open->node->close != NULL) {
            open->node->close(&open->task);
        }
        runner__forget(&open->task, NULL);
        free(open->parameters.data);
        free(open->directory.data);
        free(open);
        runner__put(text, "{\"result\":{}}");
    } else if (runner__equals(method, "\"pull\"")) {
        runner__pull(text, open, params);
    } else {
        runner__items(text, open, params);
    }
}

RUNNER_UNUSED static void runner__cancel(struct runner_bytes params)
{
    struct runner__json json;
    json.from = (const char *)params.data;
    json.end = json.from + params.length;
    RUNNER_STORE(runner__cancelled_run, runner__integer(runner__member(json, "run")));
    RUNNER_STORE(runner__cancelled_task, runner__integer(runner__member(json, "task")));
}

#ifndef __wasi__

#ifdef __cplusplus
#define RUNNER__C extern "C"
#else
#define RUNNER__C
#endif

/* Makes the plugins of an array those of this library; once in a library. */
#define RUNNER_PLUGINS(plugins)                                                                            \
    RUNNER__LIBRARY(plugins, sizeof(plugins) / sizeof((plugins)[0]), (const struct runner_node *)NULL, 0)

/* The same, with an array of the plugins that are nodes. */
#define RUNNER_PLUGINS_AND_NODES(plugins, nodes)                                                           \
    RUNNER__LIBRARY(plugins, sizeof(plugins) / sizeof((plugins)[0]), nodes,                                \
                    sizeof(nodes) / sizeof((nodes)[0]))

#define RUNNER__LIBRARY(plugins, count, nodes, node_count)                                                 \
    static struct runner_bytes runner__describe_all(void)                                                  \
    {                                                                                                      \
        struct runner__text text = {NULL, 0, 0, 0};                                                        \
        runner__describe(&text, plugins, count, nodes, node_count);                                        \
        return runner__give(&text);                                                                        \
    }                                                                                                      \
    static struct runner_bytes runner__run_one(const struct runner_host *host, struct runner_bytes params) \
    {                                                                                                      \
        struct runner__text text = {NULL, 0, 0, 0};                                                        \
        runner__run(&text, plugins, count, host, params);                                                  \
        return runner__give(&text);                                                                        \
    }                                                                                                      \
    static struct runner_bytes runner__ask_node(const struct runner_host *host, struct runner_bytes asked) \
    {                                                                                                      \
        struct runner__text text = {NULL, 0, 0, 0};                                                        \
        runner__node(&text, plugins, count, nodes, node_count, host, asked);                               \
        return runner__give(&text);                                                                        \
    }                                                                                                      \
    static void runner__free(struct runner_bytes answer)                                                   \
    {                                                                                                      \
        if (answer.data != (const unsigned char *)runner__failed) {                                        \
            free((void *)answer.data);                                                                     \
        }                                                                                                  \
    }                                                                                                      \
    RUNNER__C RUNNER_EXPORT unsigned int runner_plugin_abi(void)                                           \
    {                                                                                                      \
        return RUNNER_PLUGIN_ABI;                                                                          \
    }                                                                                                      \
    RUNNER__C RUNNER_EXPORT const struct runner_plugin *runner_plugin_table(void)                          \
    {                                                                                                      \
        static const struct runner_plugin table = {sizeof(struct runner_plugin), runner__describe_all,     \
                                                   runner__run_one, runner__cancel, runner__free,          \
                                                   runner__ask_node};                                      \
        return &table;                                                                                     \
    }                                                                                                      \
    struct runner__semicolon

#else /* __wasi__ */

/* Standard output is the protocol there: what a plugin prints goes to standard error, which is log. */
#include <stdarg.h>

RUNNER_UNUSED static int runner__printf(const char *format, ...)
{
    va_list arguments;
    int length;
    va_start(arguments, format);
    length = vfprintf(stderr, format, arguments);
    va_end(arguments);
    return length;
}

RUNNER_UNUSED static int runner__puts(const char *text)
{
    return fprintf(stderr, "%s\n", text);
}

RUNNER_UNUSED static struct runner__text runner__line(void)
{
    struct runner__text text = {NULL, 0, 0, 0};
    char piece[4096];
    while (fgets(piece, sizeof piece, stdin) != NULL) {
        runner__put(&text, piece);
        if (text.failed || text.data[text.length - 1] == '\n') {
            break;
        }
    }
    return text;
}

/* Sends {"jsonrpc", "id"?, …}, where `rest` is an object. */
RUNNER_UNUSED static void runner__send(const char *id, size_t id_length, const char *rest, size_t length)
{
    fputs("{\"jsonrpc\":\"2.0\",", stdout);
    if (id_length > 0) {
        fputs("\"id\":", stdout);
        fwrite(id, 1, id_length, stdout);
        fputs(",", stdout);
    }
    fwrite(rest + 1, 1, length - 1, stdout);
    fputs("\n", stdout);
    fflush(stdout);
}

static void runner__wasi_notify(void *context, struct runner_bytes message)
{
    (void)context;
    runner__send(NULL, 0, (const char *)message.data, message.length);
}

/* One request is open at a time, so the next line without a method is its answer. */
static struct runner_bytes runner__wasi_request(void *context, struct runner_bytes message)
{
    struct runner_bytes answer = {NULL, 0};
    (void)context;
    runner__send("\"c\"", 3, (const char *)message.data, message.length);
    for (;;) {
        struct runner__text line = runner__line();
        struct runner__json json;
        if (line.data == NULL || line.failed) {
            return answer;
        }
        json.from = line.data;
        json.end = line.data + line.length;
        if (runner__member(json, "method").from == NULL) {
            answer.data = (const unsigned char *)line.data;
            answer.length = line.length;
            return answer;
        }
        free(line.data);
    }
}

static void runner__wasi_free(void *context, struct runner_bytes answer)
{
    (void)context;
    free((void *)answer.data);
}

RUNNER_UNUSED static int runner__main(const struct runner_definition *plugins, size_t count,
                                      const struct runner_node *nodes, size_t node_count)
{
    struct runner_host host;
    struct runner__text welcome = {NULL, 0, 0, 0};
    memset(&host, 0, sizeof host);
    host.size = sizeof host;
    host.notify = runner__wasi_notify;
    host.request = runner__wasi_request;
    host.free = runner__wasi_free;
    for (;;) {
        struct runner__text line = runner__line(), answer = {NULL, 0, 0, 0};
        struct runner__json json, id, params;
        struct runner_bytes bytes;
        const char *method;
        struct runner__text name = {NULL, 0, 0, 0};
        if (line.data == NULL || line.failed) {
            return 0;
        }
        json.from = line.data;
        json.end = line.data + line.length;
        id = runner__member(json, "id");
        params = runner__member(json, "params");
        runner__add(&name, "", 0);
        runner__meaning(&name, runner__member(json, "method"));
        method = name.failed ? "" : name.data;
        bytes.data = (const unsigned char *)(params.from == NULL ? "{}" : params.from);
        bytes.length = params.from == NULL ? 2 : (size_t)(params.end - params.from);
        if (strcmp(method, "shutdown") == 0) {
            return 0;
        } else if (strcmp(method, "welcome") == 0) {
            runner__add(&welcome, (const char *)bytes.data, bytes.length);
            host.welcome.data = (const unsigned char *)welcome.data;
            host.welcome.length = welcome.length;
            runner__put(&answer, "{\"result\":{\"protocol\":1,\"framing\":\"lines\"}}");
        } else if (strcmp(method, "ping") == 0) {
            runner__put(&answer, "{\"result\":{}}");
        } else if (strcmp(method, "describe") == 0) {
            runner__describe(&answer, plugins, count, nodes, node_count);
        } else if (strcmp(method, "run") == 0) {
            runner__run(&answer, plugins, count, &host, bytes);
        } else if (strcmp(method, "open") == 0 || strcmp(method, "items") == 0 ||
                   strcmp(method, "pull") == 0 || strcmp(method, "close") == 0) {
            bytes.data = (const unsigned char *)line.data;
            bytes.length = line.length;
            runner__node(&answer, plugins, count, nodes, node_count, &host, bytes);
        } else {
            runner__fail(&answer, -32601, "unknown method");
        }
        bytes = runner__give(&answer);
        if (id.from != NULL) {
            runner__send(id.from, (size_t)(id.end - id.from), (const char *)bytes.data, bytes.length);
        }
        if (bytes.data != (const unsigned char *)runner__failed) {
            free((void *)bytes.data);
        }
        free(name.data);
        free(line.data);
    }
}

#define RUNNER_PLUGINS(plugins)                                                     \
    int main(void)                                                                  \
    {                                                                               \
        return runner__main(plugins, sizeof(plugins) / sizeof((plugins)[0]),        \
                            (const struct runner_node *)NULL, 0);                   \
    }                                                                               \
    struct runner__semicolon

/* A node has an instance of its own while it is open. */
#define RUNNER_PLUGINS_AND_NODES(plugins, nodes)                                    \
    int main(void)                                                                  \
    {                                                                               \
        return runner__main(plugins, sizeof(plugins) / sizeof((plugins)[0]), nodes, \
                            sizeof(nodes) / sizeof((nodes)[0]));                    \
    }                                                                               \
    struct runner__semicolon

#define printf runner__printf
#define puts runner__puts

#endif /* __wasi__ */

#endif /* RUNNER_PLUGIN_ABI_ONLY */

#endif /* RUNNER_PLUGIN_H */
