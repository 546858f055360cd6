-- The plugin @name@.

-- Change me: the parameters are valid, and what is returned is the log.
local function run(task, p)
  local lines, repeated = 0, {}
  for line in (p.text .. "\n"):gmatch("(.-)\n") do
    lines = lines + 1
    for _ = 1, p.times do
      repeated[#repeated + 1] = line
    end
  end
  task:progress(50)
  task:output("lines.txt", table.concat(repeated, "\n"), "text/lines", "text/plain")
  return lines .. " lines became " .. #repeated
end

return {
  name = "@name@",
  version = "0.1.0",
  description = "Repeats each line of a text.",
  tags = { "example" },
  parameters = { -- each is a JSON Schema, after its key: they become the form and the validation
    { "text", title = "Text", type = "string", ["x-multiline"] = true },
    { "times", title = "Times", type = "integer", minimum = 1, maximum = 100, default = 2 },
  },
  example = { text = "one\ntwo", times = 2 },
  dataOutput = { { dataType = "text/lines", contentType = { "text/plain" }, required = true } },
  run = run,
}
