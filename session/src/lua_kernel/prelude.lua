-- What cells find beside the standard libraries of Lua, and instead of some of it.
local interrupted, ask, display, quit = ...

-- An interrupt goes through whatever catches errors.
local raw_pcall, raw_xpcall, raw_resume = pcall, xpcall, coroutine.resume
local function through(ok, ...)
  if not ok and interrupted() then error("interrupted", 0) end
  return ok, ...
end
function pcall(f, ...) return through(raw_pcall(f, ...)) end
function xpcall(f, handler, ...) return through(raw_xpcall(f, handler, ...)) end
function coroutine.resume(co, ...) return through(raw_resume(co, ...)) end

-- Bytecode can break the interpreter.
local raw_load = load
function load(chunk, name, mode, ...)
  return raw_load(chunk, name, "t", ...)
end
function loadfile(path, mode, ...)
  local file, problem = io.open(path)
  if not file then return nil, problem end
  local text = file:read("a")
  file:close()
  return raw_load(text, "@" .. path, "t", ...)
end
function dofile(path)
  return assert(loadfile(path))()
end
string.dump = nil

-- The standard input is whoever is at the client.
io.stdout:setvbuf("line")
local rest = nil
local function line(keeps_end)
  local text = rest or ask()
  rest = nil
  return text and (keeps_end and text .. "\n" or text)
end
local function read_one(format)
  if type(format) == "string" then format = format:gsub("^%*", "") end
  if format == "n" then
    local text = line()
    return text and tonumber(text)
  elseif format == "L" then
    return line(true)
  elseif format == "a" then
    return line(true) or ""
  elseif type(format) == "number" then
    local text = line(true)
    if not text then return nil end
    local kept = text:sub(format + 1):gsub("\n$", "")
    rest = kept ~= "" and kept or nil
    return text:sub(1, format)
  elseif format == nil or format == "l" then
    return line()
  end
  error("bad argument to 'read' (invalid format)", 3)
end
local function read(...)
  local wanted = table.pack(...)
  if wanted.n == 0 then return read_one("l") end
  local values = {}
  for at = 1, wanted.n do
    values[at] = read_one(wanted[at])
    if values[at] == nil then return table.unpack(values, 1, at) end
  end
  return table.unpack(values, 1, wanted.n)
end
local real_read, real_lines, real_input = io.read, io.lines, io.input
local stdin = {
  read = function(_, ...) return read(...) end,
  lines = function(_, ...)
    local wanted = table.pack(...)
    return function() return read(table.unpack(wanted, 1, wanted.n)) end
  end,
  close = function() return true end,
}
stdin.__index, stdin.__name = stdin, "FILE*"
io.stdin = setmetatable({}, stdin)
local is_asking = true
function io.input(file)
  if file == nil then return is_asking and io.stdin or real_input() end
  is_asking = file == io.stdin
  return is_asking and file or real_input(file)
end
function io.read(...)
  if is_asking then return read(...) end
  return real_read(...)
end
function io.lines(path, ...)
  if path == nil and is_asking then return io.stdin:lines(...) end
  return real_lines(path, ...)
end

function os.exit(code)
  if code == nil or code == true then code = 0 elseif code == false then code = 1 end
  quit(code)
end

-- Modules are files in the folder of the session.
package.path, package.cpath = "./?.lua;./?/init.lua", ""

runner = { display = display }
package.loaded.runner = runner
