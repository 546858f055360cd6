/* The plugin @name@. */
#include "runner_plugin.h"

/* Change me: the parameters are valid; what is returned is why it failed. */
static const char *run_@snake@(struct runner_task *task)
{
    const char *text = runner_text(task, "text");
    int times = (int)runner_number(task, "times", 2);
    size_t length = strlen(text), used = 0, lines = 0;
    char *repeated = (char *)malloc((length + 1) * (size_t)times + 1);
    char log[80];
    if (repeated == NULL) {
        return "there is not enough memory";
    }
    runner_progress(task, 50, 100);
    while (*text != '\0') {
        size_t line = strcspn(text, "\n");
        int index;
        for (index = 0; index < times; index++) {
            memcpy(repeated + used, text, line);
            used += line;
            repeated[used++] = '\n';
        }
        lines++;
        text += line + (text[line] == '\n');
    }
    /* The last line has no end. */
    used -= used > 0;
    sprintf(log, "%lu lines became %lu", (unsigned long)lines, (unsigned long)lines * (unsigned long)times);
    runner_done(task, log);
    if (runner_output(task, "lines.txt", repeated, used, "text/lines", "text/plain") != 0) {
        free(repeated);
        return "the output cannot be written";
    }
    free(repeated);
    return NULL;
}

static const struct runner_definition plugins[] = {
    {"@name@", "0.1.0", "Repeats each line of a text.",
     /* Properties of a JSON Schema: they become the form and the validation. */
     "{\"text\": {\"title\": \"Text\", \"type\": \"string\", \"x-multiline\": true},"
     " \"times\": {\"title\": \"Times\", \"type\": \"integer\", \"minimum\": 1, \"maximum\": 100, \"default\": 2}}",
     run_@snake@,
     "\"tags\": [\"example\"], \"example\": {\"text\": \"one\\ntwo\", \"times\": 2},"
     " \"dataOutput\": [{\"dataType\": \"text/lines\", \"contentType\": [\"text/plain\"], \"required\": true}]"}};
RUNNER_PLUGINS(plugins);
